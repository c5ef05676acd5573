"""Neighbours: options of the detector that looks at the nearest reference images of one layer."""

from typing import ClassVar, Literal, Self

from pydantic import Field

from detour.options.base import Text
from detour.options.detectors import NEIGHBOURS, Detector, K, check_layer


class KNN(Detector):
    """The baseline: share of the votes of the k nearest reference images at one layer that are not for the
    predicted class (Carrara et al. 2018)."""

    method: Literal["knn"]
    layer: Text = Field(
        "last", description="the layer, by name, `last`, or `best`: the one with the best validation AUC"
    )
    k: K = Field([5, 10, 50, 100], description=NEIGHBOURS)
    votes: Literal["equal", "rank", "distance"] = Field(
        "equal",
        description="weight of a vote: `equal`, one over the `rank` (1 for the nearest), or one over the"
        " `distance`, in L2; knn, wknn and dwknn of its authors' code",
    )

    implementation: ClassVar = "detour.detectors.neighbours:KNN"
    reads: ClassVar = ["activations", "neighbours"]

    @property
    def compared(self) -> list[str] | None:
        return None if self.layer == "best" else [self.layer]

    @property
    def nearest(self) -> int:
        return max(self.k)

    def among(self, layers: list[str], key: str) -> Self:
        if self.layer == "last":
            return self.model_copy(update={"layer": layers[-1]})
        if self.layer != "best":
            check_layer(self.layer, layers, f"{key}.layer")
        return self
