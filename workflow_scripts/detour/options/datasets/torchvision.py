"""Torchvision: options of the datasets that it reads, by name."""

from typing import ClassVar, Literal

from pydantic import Field

from detour.options.base import Text
from detour.options.datasets import Indexed, Test


class Torchvision(Indexed):
    """A dataset of torchvision: its training part is the reference, its test part is attacked."""

    name: Literal["torchvision"]
    dataset: Literal["CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "STL10", "SVHN"] = Field(
        description="which, by the name of its class"
    )
    root: Text = Field(description="folder that torchvision keeps it in")
    download: bool = Field(False, description="whether it is downloaded, before any job, if it is not there")
    test: Test = None

    implementation: ClassVar = "detour.datasets.torchvision:Torchvision"
