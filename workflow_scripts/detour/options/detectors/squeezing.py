"""Squeezing: options of the detector that compares what the classifier says with and without detail."""

from typing import ClassVar, Literal

from pydantic import Field

from detour.options.detectors import Detector


class FeatureSqueezing(Detector):
    """Feature squeezing: how far the classifier's probabilities move when images lose detail (Xu et al.
    2018, without non-local means); learns nothing."""

    method: Literal["feature_squeezing"]
    bits: int = Field(5, ge=1, le=8, description="bits that are left of each value; 8: all")
    median: int = Field(
        2,
        ge=1,
        le=15,
        description="side of the square in pixels whose median replaces each pixel; 1: no smoothing",
    )

    implementation: ClassVar = "detour.detectors.squeezing:FeatureSqueezing"
    reads: ClassVar = ["activations", "squeezed"]

    @property
    def squeezers(self) -> dict[str, int]:
        asked = {"bits": self.bits, "median": self.median}
        return {name: by for name, by in asked.items() if by != UNCHANGED[name]}

    def problems(self, training: int) -> list[tuple[str, str]]:
        if self.squeezers:
            return []
        return [
            ("bits", "found 8 with a median of 1, which change no image; use fewer bits, or a larger median")
        ]


# What leaves images as they are.
UNCHANGED = {"bits": 8, "median": 1}
