"""Torchvision: its datasets, by name."""

import inspect
from pathlib import Path
from typing import Any

from detour.datasets.outside import Indexed
from detour.errors import InputError
from detour.options.datasets import torchvision as options
from detour.spelling import shown


class Torchvision(Indexed, options.Torchvision):
    """The training part of one of them is the reference, the test part is the test."""

    download: bool = False

    @property
    def what(self) -> str:
        return f"torchvision's {self.dataset}"

    def open(self, part: str) -> Any:
        # Imported here: the package has the name of this module's family.
        from torchvision import datasets

        kind, first = getattr(datasets, self.dataset), part == "reference"
        by_flag = "train" in inspect.signature(kind).parameters
        which = {"train": first} if by_flag else {"split": "train" if first else "test"}
        try:
            found = kind(self.root, **which, download=self.download)
        # Of files that are cut, whatever reading them raises.
        except Exception as error:
            raise InputError(
                f"dataset.root: found no {self.dataset} that torchvision reads in {self.root!r}"
                f" ({type(error).__name__}: {shown(str(error))}); copy it there as torchvision keeps it, or"
                " set `dataset.download: true`"
            ) from error
        # SVHN has no names, which would be the digits.
        found.classes = getattr(found, "classes", list(map(str, range(10))))
        found.files = [_place(found)]
        return found


def _place(found: Any) -> Path:
    """The file or folder that a dataset was read from."""
    folder = getattr(found, "raw_folder", None) or Path(found.root, getattr(found, "base_folder", ""))
    # SVHN's parts are files of one folder.
    return Path(folder, found.filename) if hasattr(found, "split_list") else Path(folder)
