"""Fisher: options of the discriminants of the activations at all layers side by side."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from detour.options.base import Count, Nonnegative, Number, Positive, Text, Unique
from detour.options.detectors import Detector, Trained


class Discriminant(Detector):
    """Reads the joint Gaussian of its layers."""

    layers: Annotated[list[Text], *Unique] | None = Field(
        None, description="names of the layers that are looked at; null: all"
    )
    ridge: Positive = Field(
        0.0001, description="added to the eigenvalues of the reference's correlations, whose mean is 1"
    )
    damage: Nonnegative = Field(
        1,
        description="with `controls: true`: weight of the scatter of what controls change, beside how genuine"
        " images of a class vary",
    )

    reads: ClassVar = ["activations", "joint"]
    differentiable: ClassVar = True

    @property
    def compared(self) -> list[str] | None:
        return self.layers


class Fisher(Discriminant):
    """Fisher's discriminant on the activations at all layers side by side, with the reference's covariance;
    ours."""

    method: Literal["fisher"]

    implementation: ClassVar = "detour.detectors.fisher:Fisher"


class FisherMLP(Trained, Discriminant):
    """Fisher's discriminant and a perceptron on the same whitened activations, added up; ours."""

    method: Literal["fisher_mlp"]
    hidden: int = Field(64, ge=1, le=8192, description="hidden units")
    dropout: Number = Field(
        0.3, ge=0, lt=1, description="share of inputs and of hidden units that a step leaves out"
    )
    epochs: Count = Field(
        25, description="passes over the training images; the one with the best validation AUC is kept"
    )
    batch_size: int = Field(256, ge=1, le=65536, description="images per step")
    lr: Positive = Field(0.003, description="highest rate of AdamW's one-cycle schedule")
    weight_decay: Nonnegative = Field(0.01, description="AdamW's")

    implementation: ClassVar = "detour.detectors.fisher:FisherMLP"
