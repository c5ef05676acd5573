"""Classifier: options of the network whose images are attacked."""

from re import fullmatch
from typing import Annotated, Literal

from pydantic import Field

from detour.options.base import Count, Names, Number, Options, Positive, Text, said


def is_file(weights: str) -> bool:
    """Whether `classifier.weights` means a file; names of weights are in capitals."""
    return weights not in ("train", "untrained") and not fullmatch("[A-Z0-9_]+", weights)


class Training(Options):
    """How `weights: train` trains the classifier."""

    epochs: Count = Field(5, description="for `weights: train`: passes over the reference images")
    batch_size: int = Field(64, ge=2, le=65536, description="for `weights: train`: images per step")
    lr: Positive = Field(0.002, description="for `weights: train`: highest rate of Adam's one-cycle schedule")


class Classifier(Options):
    """The network, its weights, and what is compared in it."""

    model: Text = Field(
        description="`small_resnet` (8 residual blocks, 198,490 weights, for small images) or a"
        " classification model of torchvision, by name"
    )
    weights: Text = Field(
        description="`train` (in the run, on the reference images), `DIGITS` (of `small_resnet`, part of"
        " this project, which tests on at most 500 digits), a weight enum of torchvision (`IMAGENET1K_V1`),"
        " the path of a checkpoint (a state dict, of PyTorch or safetensors, also under `state_dict` or"
        " `model`), or `untrained` (random, to see whether everything fits)"
    )
    layers: Annotated[Literal["auto"] | Names, said("auto, or a list of names of modules, each once")] = (
        Field(
            "auto",
            description="names of the modules whose outputs are compared, in the order of the data, or"
            " `auto` (the stem and every block; `small_resnet`, families ResNet and Inception)",
        )
    )
    transform_input: bool | None = Field(
        None,
        description="of `inception_v3` and `googlenet` alone: whether the network itself turns pixels"
        " normalised as ImageNet's into those of its first training, which a state dict does not say; null:"
        " true for torchvision's own weights, false for `train` and `untrained`, and to be stated for any"
        " other file",
    )
    mean: Annotated[list[Annotated[Number, Field(ge=0, le=1)]], Field(min_length=3, max_length=3)] = Field(
        [0.485, 0.456, 0.406],
        description="mean of the normalisation inside the model, per channel of [0, 1]",
    )
    std: Annotated[list[Annotated[Number, Field(ge=0.001, le=1)]], Field(min_length=3, max_length=3)] = Field(
        [0.229, 0.224, 0.225], description="standard deviation of the normalisation, per channel of [0, 1]"
    )
    training: Training = Field(default_factory=Training)

    @property
    def from_file(self) -> bool:
        return is_file(self.weights)
