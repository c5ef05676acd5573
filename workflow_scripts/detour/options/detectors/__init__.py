"""Detectors: what the options of all methods have in common; each family of methods has a module here."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr

from detour.errors import InputError
from detour.options.base import (
    ARGUMENTS,
    Arguments,
    Count,
    Method,
    Name,
    Nonnegative,
    Positive,
    Reference,
    Unique,
)
from detour.options.catalogue import found
from detour.spelling import unknown

PAPER_S = ("medoid", "l2")


class Detector(Method):
    """One entry of `detectors`."""

    name: Name
    method: str
    controls: bool = Field(
        False,
        description="whether the run's `controls` are in its training and validation, as genuine images; if"
        " not, they are in the test alone",
    )

    # Of the fields of `detour.detectors.versions.Run`: a change of others does not matter.
    reads: ClassVar[list[str]]
    # Whether its training draws; others are trained with the first seed only.
    seeded: ClassVar[bool] = False
    # Whether it has a gradient, by `logits`, so that an adaptive attack can descend it.
    differentiable: ClassVar[bool] = False

    @property
    def measure(self) -> tuple[str, str]:
        """What the distances are to, and by which metric."""
        return PAPER_S

    @property
    def attackable(self) -> bool:
        """Whether adaptive attacks can attack it: their distances are the paper's."""
        return self.differentiable and self.measure == PAPER_S

    @property
    def compared(self) -> list[str] | None:
        """Names of the layers that it looks at; None: all."""
        return None

    @property
    def nearest(self) -> int:
        """How many of the nearest reference images it asks for."""
        return 0

    @property
    def squeezers(self) -> dict[str, int]:
        """What it has images squeezed by: `bits`, `median`."""
        return {}

    @property
    def step(self) -> float:
        """Size of the step that moves images before it looks at them, in pixels of 255; 0: none."""
        return 0

    def among(self, layers: list[str], key: str) -> Self:
        """These options with the names of the run's layers.

        Parameters
        ----------
        layers
            Those that are compared, in the order of the data.
        key
            Of this entry in the configuration, for the error.

        Raises
        ------
        ConfigError
            If one that is named is not among them.
        """
        for name in self.compared or []:
            check_layer(name, layers, f"{key}.layers")
        return self

    def problems(self, training: int) -> list[tuple[str, str]]:
        """Keys, and what is wrong with their values with so many training images."""
        return []


class Measuring(Detector):
    """Reads the distances to every class's representative."""

    representative: Literal["medoid", "centroid"] = Field(
        "medoid",
        description="what the distances are to: each class's `medoid`, the paper's, or its `centroid`, the"
        " mean",
    )
    metric: Literal["l2", "cosine"] = Field(
        "l2", description="the distance: `l2`, the paper's, or `cosine`, 1 - the cosine of the angle"
    )

    reads: ClassVar = ["distances"]

    @property
    def measure(self) -> tuple[str, str]:
        return self.representative, self.metric


class Scaled(Measuring):
    """Scales the distances before it learns from them."""

    scale: Literal["layer", "standard", "raw"] = Field(
        "layer",
        description="distances minus their mean, divided by their deviation on the training images: `layer`:"
        " one of each a layer; `standard`: one of each a layer and class; `raw`: as they are (the paper does"
        " not say)",
    )


class Trained(Detector):
    """Is trained in passes over the images."""

    epochs: Count = Field(
        100, description="passes over the training images; the one with the best validation AUC is kept"
    )
    batch_size: int = Field(100, ge=1, le=65536, description="images per step")
    lr: Positive = Field(0.001, description="rate of Adam")
    weight_decay: Nonnegative = Field(0, description="factor of Adam's L2 penalty")

    seeded: ClassVar = True


Inverse = Annotated[list[Positive], *Unique]
K = Annotated[list[Annotated[int, Field(ge=1, le=1_000_000)]], *Unique]


class Regressing(Detector):
    """Is a logistic regression at its end."""

    c: Inverse = Field(
        [0.01, 0.1, 1, 10, 100],
        description="inverse strengths of the logistic regression's L2 penalty to try; the one with the best"
        " validation AUC is kept",
    )


def check_layer(name: str, layers: list[str], key: str) -> None:
    if name not in layers:
        raise InputError(unknown(key, name, layers))


NEIGHBOURS = "numbers of neighbours to try; the one with the best validation AUC is kept"


class Outside(Detector):
    """A detector from outside: a class that is made with its options, has `fit`, `score`, `state` and
    `restored`, and says what it reads."""

    method: Reference = Field(description="`file.py:Class` or `package.module:Class`")
    options: Arguments = Field({}, description=ARGUMENTS)

    implementation: ClassVar = "detour.detectors.outside:made"
    described: ClassVar = "detour.detectors.outside:described"
    # What the class says of itself (`detour.detectors.outside.described`), filled in when the run is read.
    _said: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def outside(self) -> str:
        return self.method

    @property
    def reads(self) -> list[str]:  # type: ignore[override]
        return self._said["reads"]

    @property
    def seeded(self) -> bool:  # type: ignore[override]
        return self._said["seeded"]

    @property
    def nearest(self) -> int:
        return self._said["nearest"]

    @property
    def squeezers(self) -> dict[str, int]:
        # What was remembered of a class may be of before one could ask for these.
        return self._said.get("squeezers", {})

    @property
    def step(self) -> float:
        return self._said.get("step", 0)

    @property
    def measure(self) -> tuple[str, str]:
        representative, metric = self._said["measure"]
        return representative, metric


METHODS = found(__name__, __path__, Detector)


def detector(entry: dict[str, Any]) -> Detector:
    """The options of an entry that was checked before; what is left out has its default."""
    return METHODS.get(entry["method"], Outside).model_construct(**entry)
