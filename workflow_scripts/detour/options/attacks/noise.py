"""Noise: options of what changes an image without looking at the classifier."""

from typing import ClassVar, Literal

from detour.options.attacks import Bounded


class Noise(Bounded):
    """Uniform noise in [-eps, eps]."""

    method: Literal["noise"]

    control: ClassVar = True
    implementation: ClassVar = "detour.attacks.noise:noise"
