"""Confidence: options of the detectors that use only the classifier's output, and learn nothing."""

from typing import ClassVar, Literal

from pydantic import Field

from detour.options.base import Positive
from detour.options.detectors import Detector


class MaxSoftmax(Detector):
    """1 - the classifier's largest probability (Hendrycks and Gimpel 2017); learns nothing."""

    method: Literal["max_softmax"]

    implementation: ClassVar = "detour.detectors.confidence:MaxSoftmax"
    reads: ClassVar = ["activations"]


class Energy(Detector):
    """Energy of the classifier's logits (Liu et al. 2020); learns nothing."""

    method: Literal["energy"]
    temperature: Positive = Field(1, description="T")

    implementation: ClassVar = "detour.detectors.confidence:Energy"
    reads: ClassVar = ["activations"]
