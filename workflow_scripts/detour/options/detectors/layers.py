"""Layers: options of the detectors with one number per layer, combined by logistic regression."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from detour.options.base import Number, Unique
from detour.options.detectors import NEIGHBOURS, K, Regressing


class KNNDistance(Regressing):
    """Distance to the k-th nearest reference image at each layer, combined by logistic regression."""

    method: Literal["knn_distance"]
    k: K = Field([5, 10, 50, 100], description=NEIGHBOURS)

    implementation: ClassVar = "detour.detectors.layers:KNNDistance"
    reads: ClassVar = ["neighbours"]

    @property
    def nearest(self) -> int:
        return max(self.k)


class Mahalanobis(Regressing):
    """Mahalanobis distance to the nearest class at each layer (Lee et al. 2018), combined by logistic
    regression."""

    method: Literal["mahalanobis"]
    magnitude: Number = Field(
        0,
        ge=0,
        le=255,
        description="size of the paper's input pre-processing, a step of the pixels towards the nearest class"
        " at each layer, in pixels of 255; the paper tries 0 to 2.55; 0: none",
    )

    implementation: ClassVar = "detour.detectors.layers:Mahalanobis"

    @property
    def reads(self) -> list[str]:  # type: ignore[override]
        return ["preprocessed"] if self.magnitude else ["activations", "gaussians"]

    @property
    def step(self) -> float:
        return self.magnitude


class LID(Regressing):
    """Local intrinsic dimensionality at each layer (Ma et al. 2018), combined by logistic regression."""

    method: Literal["lid"]
    batch: int = Field(
        100,
        ge=2,
        le=1_000_000,
        description="original training images among which the neighbours are looked for, drawn by the seed;"
        " the image's own is never among them",
    )
    k: Annotated[list[Annotated[int, Field(ge=2, le=1_000_000)]], *Unique] = Field(
        [10, 20, 30, 50], description=NEIGHBOURS
    )

    implementation: ClassVar = "detour.detectors.layers:LID"
    reads: ClassVar = ["activations"]
    seeded: ClassVar = True

    def problems(self, training: int) -> list[tuple[str, str]]:
        found = []
        # An image is not in its own batch.
        if self.batch >= training:
            allowed = f"at most {training - 1}, as there are {training} training images"
            found.append(("batch", f"found {self.batch}, allowed: {allowed}"))
        if max(self.k) > self.batch:
            found.append(
                ("k", f"found {max(self.k)} in {self.name!r}, allowed: at most its batch, {self.batch}")
            )
        return found
