"""Classifier: options of the network whose images are attacked."""

from re import fullmatch
from typing import Annotated, Literal

from pydantic import Field

from detour.methods import is_reference
from detour.options.base import (
    ARGUMENTS,
    Arguments,
    Count,
    Names,
    Number,
    Options,
    Positive,
    Text,
    Unique,
    said,
)

# What `classifier.weights` can be besides the names and paths of weights.
IN_PLACE = ("train", "untrained", "already")


def is_file(weights: str) -> bool:
    """Whether `classifier.weights` means a file; names of weights are in capitals."""
    return weights not in IN_PLACE and not fullmatch("[A-Z0-9_]+", weights)


# Of three colours or of grey.
Channels = Field(min_length=1, max_length=3)


class Training(Options):
    """How `weights: train` trains the classifier."""

    epochs: Count = Field(5, description="for `weights: train`: passes over the reference images")
    batch_size: int = Field(64, ge=2, le=65536, description="for `weights: train`: images per step")
    lr: Positive = Field(0.002, description="for `weights: train`: highest rate of Adam's one-cycle schedule")
    start: Text | None = Field(
        None,
        description="for `weights: train`: the path of a checkpoint to fine-tune, whose last layer is left"
        " out where it is of another number of classes; null: weights as the network is made with",
    )


class Classifier(Options):
    """The network, its weights, and what is compared in it."""

    model: Text = Field(
        description="`small_resnet` (8 residual blocks, 198,490 weights, for small images), a classification"
        " model of torchvision, by name, or what makes a network: `file.py:function` or"
        " `package.module:function` (docs/networks.md)"
    )
    options: Arguments = Field(
        {}, description=f"of a `model` that is made by a function: {ARGUMENTS}, its number of classes too"
    )
    weights: Text = Field(
        description="`train` (in the run, on the reference images), `DIGITS` (of `small_resnet`, part of"
        " this project, which tests on at most 500 digits), a weight enum of torchvision (`IMAGENET1K_V1`),"
        " the path of a checkpoint (a state dict, of PyTorch or safetensors, also under `state_dict` or"
        " `model`), `already` (the function in `model` has loaded them), or `untrained` (random, to see"
        " whether everything fits)"
    )
    classes: Annotated[list[Annotated[int, Field(ge=0)] | Text], *Unique] | None = Field(
        None,
        description="of a network with more outputs than the reference has classes: the outputs that are its"
        " classes, in the order of the reference, by number from 0, or by name where weights of torchvision"
        " or a network of transformers have names; null: all",
    )
    layers: Annotated[Literal["auto"] | Names, said("auto, or a list of names of modules, each once")] = (
        Field(
            "auto",
            description="names of the modules whose outputs are compared, in the order of the data, where"
            " `*` stands for any part of a name between two dots, or `auto` (the stem and every block, by the"
            " rule in docs/networks.md); `snakemake layers` lists them",
        )
    )
    transform_input: bool | None = Field(
        None,
        description="of `inception_v3` and `googlenet` alone: whether the network itself turns pixels"
        " normalised as ImageNet's into those of its first training, which a state dict does not say; null:"
        " true for torchvision's own weights, false for `train` and `untrained`, and to be stated for any"
        " other file",
    )
    mean: Annotated[list[Annotated[Number, Field(ge=0, le=1)]], Channels] = Field(
        [0.485, 0.456, 0.406],
        description="mean of the normalisation before the network, per channel of [0, 1]; one number for a"
        " network that takes one channel, which is given the mean of the three; 0 with `std` 1 for a network"
        " that normalises itself",
    )
    std: Annotated[list[Annotated[Number, Field(ge=0.001, le=1)]], Channels] = Field(
        [0.229, 0.224, 0.225],
        description="standard deviation of the normalisation, per channel of [0, 1]",
    )
    training: Training = Field(default_factory=Training)

    @property
    def code(self) -> tuple[str, ...]:
        """The reference that makes the network, for every job that builds it."""
        return (self.model,) if is_reference(self.model) else ()

    @property
    def file(self) -> str | None:
        """The checkpoint that is read, if there is one."""
        if self.weights == "train":
            return self.training.start
        return self.weights if is_file(self.weights) else None
