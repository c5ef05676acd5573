"""Detail: options of the controls that take fine detail away."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from detour.options.base import Number, Positive
from detour.options.controls import Control


class JPEG(Control):
    """Compressed as JPEG, and decoded."""

    method: Literal["jpeg"]
    quality: int = Field(ge=1, le=100, description="of the compression, as libjpeg counts it")

    strength: ClassVar = "quality"
    implementation: ClassVar = "detour.controls.detail:jpeg"


class GaussianBlur(Control):
    """Smoothed by a Gaussian, cut at three deviations."""

    method: Literal["gaussian_blur"]
    sigma: Annotated[Positive, Field(le=100)] = Field(description="its standard deviation, in pixels")

    strength: ClassVar = "sigma"
    implementation: ClassVar = "detour.controls.detail:gaussian_blur"


class Defocus(Control):
    """Smoothed by a disc, as a lens out of focus does."""

    method: Literal["defocus"]
    radius: Annotated[Positive, Field(le=100)] = Field(description="of the disc, in pixels")

    strength: ClassVar = "radius"
    implementation: ClassVar = "detour.controls.detail:defocus"


class Motion(Control):
    """Smoothed along a line, in a direction that is drawn for each image."""

    method: Literal["motion"]
    length: int = Field(ge=1, le=201, description="of the line, in pixels")

    strength: ClassVar = "length"
    implementation: ClassVar = "detour.controls.detail:motion"


class Rescale(Control):
    """Made smaller, and as large as before."""

    method: Literal["rescale"]
    factor: Number = Field(ge=0.001, le=1, description="of the smaller side's length to the present one's")

    strength: ClassVar = "factor"
    implementation: ClassVar = "detour.controls.detail:rescale"
