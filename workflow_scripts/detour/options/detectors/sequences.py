"""Sequences: options of the detectors that learn from the distances at all layers."""

from typing import ClassVar, Literal

from pydantic import Field

from detour.options.base import Count
from detour.options.detectors import Regressing, Scaled, Trained


class Network(Trained, Scaled):
    """A network on the distances."""

    hidden: int = Field(100, ge=1, le=8192, description="hidden units")
    patience: Count | None = Field(
        None,
        description="epochs without a better validation AUC after which training ends; null: all epochs, as"
        " in the paper",
    )

    differentiable: ClassVar = True


class LSTM(Network):
    """The paper's: an LSTM over the layers, its last hidden state into one linear unit."""

    method: Literal["lstm"]
    bidirectional: bool = Field(
        False,
        description="whether a second LSTM reads the layers backwards, and both last states go into the unit",
    )

    implementation: ClassVar = "detour.detectors.sequences:LSTM"


class MLP(Network):
    """A perceptron with one hidden layer on the distances at all layers at once."""

    method: Literal["mlp"]

    implementation: ClassVar = "detour.detectors.sequences:MLP"


class Logistic(Regressing, Scaled):
    """Logistic regression on the distances at all layers at once."""

    method: Literal["logistic"]

    implementation: ClassVar = "detour.detectors.sequences:Logistic"
    differentiable: ClassVar = True
