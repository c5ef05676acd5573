"""Outside: detectors that are no part of this project."""

import inspect
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    with_config,
)
from typing_extensions import TypedDict

from detour import methods
from detour.errors import InputError
from detour.options.detectors import Outside
from detour.spelling import quoted

if TYPE_CHECKING:
    from detour.detectors import Detector

METHODS = ("fit", "score", "state", "restored")

# What it can read of a run; the joint Gaussian is made for layers that an entry of this project names.
Read = Literal["distances", "activations", "neighbours", "squeezed", "preprocessed", "gaussians"]

# What is read only where it is asked for, by the attribute that asks.
ASKED = {"nearest": "neighbours", "squeezers": "squeezed", "step": "preprocessed"}


def made(options: Outside) -> "Detector":
    """The untrained detector."""
    return methods.loaded(options.method)(**options.options)


def described(options: Outside) -> dict[str, Any]:
    """What the workflow has to know of it before any job, from attributes of the detector.

    Those are `reads` (required), `seeded` (False: it draws nothing, and is trained with the first seed
    alone), `nearest` (0: the number of nearest reference images that it asks for), `squeezers` ({}: what
    images are squeezed by), `step` (0: by how much pixels are moved before it looks, see
    `detour.preprocessed`) and `measure` (the paper's: representative and metric of the distances).

    Raises
    ------
    InputError
        If it is no detector, or cannot be made with its options.
    """
    kind = methods.loaded(options.method)
    try:
        inspect.signature(kind).bind(**options.options)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{options.method} cannot be made with its options: {error}; correct `options`"
        ) from None
    detector = kind(**options.options)
    if lacking := [name for name in METHODS if not callable(getattr(detector, name, None))]:
        raise InputError(f"{options.method} has no {', '.join(lacking)}, expected {', '.join(METHODS)}")
    try:
        return _Said.model_validate(detector, from_attributes=True).model_dump()
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise InputError(
            f"{options.method}.{name}: found {quoted(getattr(detector, name, None))}, expected"
            f" {_Said.model_fields[name].description}"
        ) from None


@with_config(ConfigDict(extra="forbid"))
class Squeezers(TypedDict, total=False):
    """Ways of squeezing that change something, as `feature_squeezing` has them."""

    bits: Annotated[int, Field(ge=1, le=7)]
    median: Annotated[int, Field(ge=2, le=15)]


class _Said(BaseModel):
    """Attributes of a detector."""

    reads: Annotated[list[Read], Field(min_length=1)] = Field(
        description=f"a list of some of {', '.join(get_args(Read))}"
    )
    seeded: bool = Field(False, description="True or False")
    nearest: int = Field(
        0,
        strict=True,
        ge=0,
        validate_default=True,
        description="the number of neighbours, at least 1 where it `reads` them, 0 elsewhere",
    )
    squeezers: Squeezers = Field(
        {},
        validate_default=True,
        description="bits (1 to 7), median (2 to 15) or both where it `reads` squeezed, none elsewhere",
    )
    step: float = Field(
        0,
        ge=0,
        le=255,
        allow_inf_nan=False,
        validate_default=True,
        description="a size in pixels of 255, above 0 where it `reads` preprocessed, 0 elsewhere",
    )
    measure: tuple[Literal["medoid", "centroid"], Literal["l2", "cosine"]] = Field(
        ("medoid", "l2"), description="medoid or centroid, and l2 or cosine"
    )

    @field_validator(*ASKED)
    @classmethod
    def _as_it_reads(cls, asked: Any, info: ValidationInfo) -> Any:
        if (ASKED[str(info.field_name)] in info.data.get("reads", ())) != bool(asked):
            raise ValueError
        return asked
