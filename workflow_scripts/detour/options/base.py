"""Base: what every typed section of the configuration is, and the types that they share."""

import json
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    StringConstraints,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from detour.methods import EXPECTED, is_reference, module


class Options(BaseModel):
    """A section: unknown keys are errors, and nothing is converted, so that 100.0 is no whole number."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class Method(Options):
    """A section of which a key says what is done; what does it is loaded by the job."""

    # `module:name`, called with these options.
    implementation: ClassVar[str]
    # Where that runs code from outside: `module:function` of these options, which looks whether it can, and
    # gives what that code says of itself.
    described: ClassVar[str] = ""

    @property
    def outside(self) -> str:
        """The reference of the code from outside that it runs; empty: none."""
        return ""

    @property
    def code(self) -> tuple[str, ...]:
        """Modules and references that its job loads by name, which no import shows."""
        return (module(self.implementation), *filter(None, [self.outside]))


# How errors and the schema call the two kinds of methods, in this order.
KINDS = OWN, OUTSIDE = "of this project", "from outside"


def either(own: Any, outside: Any, key: str = "method") -> Any:
    """The type of a section whose key is one of this project's names, or a reference.

    Parameters
    ----------
    own
        Union of the options of this project.
    outside
        Options of what a reference is to.
    """

    def kind(value: Any) -> str:
        name = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        return OUTSIDE if isinstance(name, str) and is_reference(name) else OWN

    known = Annotated[own, Field(discriminator=key), Tag(OWN)]
    return Annotated[known | Annotated[outside, Tag(OUTSIDE)], Discriminator(kind)]


def unexpected(words: str, at: str = "", allowed: list[str] | None = None) -> PydanticCustomError:
    """The error of a value, or of what is `at` a key in it, that is not what those words say."""
    return PydanticCustomError(
        "unexpected", "expected {words}", {"words": words, "at": at, "allowed": allowed}
    )


def said(words: str, allowed: list[str] | None = None) -> WrapValidator:
    """Say in words what is expected where the value is not; what is no text at all is told as such.

    Parameters
    ----------
    words
        What is expected.
    allowed
        Examples of it, of which the nearest spelling is told in place of the words.
    """

    def check(value: Any, validated: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validated(value)
        except ValidationError as error:
            if error.errors()[0]["type"] in ("string_type", "string_too_long"):
                raise
            raise unexpected(words, allowed=allowed) from None

    return WrapValidator(check)


def _unique(entries: list[Any]) -> list[Any]:
    if len({repr(entry) for entry in entries}) < len(entries):
        raise unexpected("no entry twice")
    return entries


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Refuse what no artefact and no other process can be told: what is not of JSON, or not finite."""
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise unexpected(f"numbers that are finite, text, lists and mappings ({error})") from None
    return options


def shortest(number: float) -> float:
    """1 of 1.0: what is written in another way means the same, and makes nothing again."""
    return int(number) if float(number).is_integer() else number


LARGE = 1e12

Number = Annotated[float, PlainSerializer(shortest)]
Positive = Annotated[Number, Field(ge=1e-12, le=LARGE)]
Nonnegative = Annotated[Number, Field(ge=0, le=LARGE)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]

Unique = AfterValidator(_unique), Field(min_length=1, json_schema_extra={"uniqueItems": True})

Text = Annotated[
    str,
    StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00-\x1f\x7f]*$"),
    said("text in one line"),
]
Names = Annotated[list[Text], *Unique]
Reference = Annotated[
    str, StringConstraints(max_length=4000, pattern=r"^[^\x00-\x1f\x7f:]+:[A-Za-z_][\w.]*$"), said(EXPECTED)
]
Arguments = Annotated[dict[str, Any], AfterValidator(_plain)]
ARGUMENTS = "keyword arguments that it is called with"
# Part of file names, and of rows and captions.
Name = Annotated[
    str,
    StringConstraints(max_length=100, pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$"),
    said("letters, digits and some of - _, a letter or digit first"),
    Field(description="name, unique; it is part of file names"),
]
