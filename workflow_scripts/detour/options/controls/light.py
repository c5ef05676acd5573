"""Light: options of the controls that change brightness and colours."""

from typing import ClassVar, Literal

from pydantic import Field

from detour.options.base import Number
from detour.options.controls import Control


class Adjusted(Control):
    """Brightness or contrast are other ones."""

    factor: Number = Field(ge=0, le=100, description="what it is multiplied by; 1 changes nothing")

    strength: ClassVar = "factor"


class Brightness(Adjusted):
    """Brighter, or darker."""

    method: Literal["brightness"]

    implementation: ClassVar = "detour.controls.light:brightness"


class Contrast(Adjusted):
    """Of more contrast, or less."""

    method: Literal["contrast"]

    implementation: ClassVar = "detour.controls.light:contrast"


class Gamma(Control):
    """Each value to a power, of a range from 0 to 1."""

    method: Literal["gamma"]
    gamma: Number = Field(ge=0.01, le=100, description="the power; 1 changes nothing")

    strength: ClassVar = "gamma"
    implementation: ClassVar = "detour.controls.light:gamma"


class Grey(Control):
    """Without colours."""

    method: Literal["grey"]

    implementation: ClassVar = "detour.controls.light:grey"
