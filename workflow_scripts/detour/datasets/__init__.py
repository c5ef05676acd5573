"""Datasets: where images come from; each family of datasets has a module here, and its options another."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from torch.utils.data import Dataset

from detour import methods
from detour.options import datasets as options


class Labelled(NamedTuple):
    """Images, decoded on access; labels are available without decoding.

    Attributes
    ----------
    images
        uint8 [3, H, W] and class, and of files the name of one that asks to be turned, otherwise nothing; in
        place of one that cannot be decoded, what is wrong with it.
    label : int64 [n]
        The classes.
    names
        What a person knows the images by: paths under their folder.
    target : int64 [n], optional
        Classes to aim at, where the data set gives them.
    """

    images: Dataset[Any]
    label: np.ndarray
    names: list[str]
    target: np.ndarray | None = None


class Known(Protocol):
    """What a dataset is, beside its options.

    Attributes
    ----------
    decodes
        Whether its images are files to decode.
    """

    decodes: ClassVar[bool]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the classifier's outputs."""

    @property
    def class_names(self) -> list[str]:
        """What figures call the classes."""

    def test_images(self) -> Labelled:
        """The images that are attacked."""

    def reference_images(self, classes: Sequence[int] | None = None) -> Labelled:
        """Those of some classes, in their order; None: of all."""


def dataset(section: dict[str, Any]) -> Known:
    """The dataset of what a job is told of it, which was checked before; other keys are for the record."""
    return methods.loaded(options.dataset(section).implementation).model_construct(**section)
