"""Noise: options of the controls that add noise, as sensors do."""

from typing import ClassVar, Literal

from pydantic import Field

from detour.options.base import Number, Positive
from detour.options.controls import Control


class Noise(Control):
    """Uniform noise in [-eps, eps], as large as an attack's change may be."""

    method: Literal["noise"]
    eps: int = Field(
        ge=0, le=255, description="largest change of a value, in pixels of 255; 0 changes nothing"
    )

    strength: ClassVar = "eps"
    implementation: ClassVar = "detour.controls.noise:noise"


class GaussianNoise(Control):
    """Normal noise, as of a sensor in the dark."""

    method: Literal["gaussian_noise"]
    sigma: Number = Field(ge=0, le=255, description="its standard deviation, in pixels of 255")

    strength: ClassVar = "sigma"
    implementation: ClassVar = "detour.controls.noise:gaussian_noise"


class ShotNoise(Control):
    """Poisson noise: what few photons leave of an image."""

    method: Literal["shot_noise"]
    photons: Positive = Field(description="how many make a value of 255; the fewer, the noisier")

    strength: ClassVar = "photons"
    implementation: ClassVar = "detour.controls.noise:shot_noise"
