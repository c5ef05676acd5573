"""Neighbours: options of the detector that looks at the nearest reference images of one layer."""

from typing import ClassVar, Literal, Self

from pydantic import Field

from detour.options.base import Text
from detour.options.detectors import NEIGHBOURS, Detector, K, check_layer


class KNN(Detector):
    """The baseline: share of the k nearest reference images at one layer that lack the predicted class."""

    method: Literal["knn"]
    layer: Text = Field(
        "last", description="the layer, by name, `last`, or `best`: the one with the best validation AUC"
    )
    k: K = Field([5, 10, 50, 100], description=NEIGHBOURS)

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
