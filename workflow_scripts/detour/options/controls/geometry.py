"""Geometry: options of the controls that move an image."""

from typing import ClassVar, Literal

from pydantic import Field

from detour.options.base import Number
from detour.options.controls import Control


class Flip(Control):
    """Left is right."""

    method: Literal["flip"]

    implementation: ClassVar = "detour.controls.geometry:flip"


class Crop(Control):
    """The middle alone, as large as the whole was."""

    method: Literal["crop"]
    factor: Number = Field(ge=0.001, le=1, description="of the middle's side to the whole's")

    strength: ClassVar = "factor"
    implementation: ClassVar = "detour.controls.geometry:crop"


class Rotate(Control):
    """Turned about its middle; the corners are mirrored, so that none is black."""

    method: Literal["rotate"]
    degrees: Number = Field(ge=-180, le=180, description="against the clock")

    strength: ClassVar = "degrees"
    implementation: ClassVar = "detour.controls.geometry:rotate"
