"""Arrays: datasets whose images are in arrays, read as a whole."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from detour.datasets.outside import Indexed
from detour.errors import InputError
from detour.options.datasets import arrays as options
from detour.options.datasets.arrays import FORM
from detour.spelling import listed, shown


class Arrays(Indexed, options.Arrays):
    """Arrays of images and of their classes, in `.npz` files or groups of Zarr."""

    @property
    def what(self) -> str:
        return "arrays"

    def open(self, part: str) -> Any:
        path = Path(getattr(self, part))
        try:
            found = _npz(path) if path.suffix == ".npz" else _zarr(path)
        # Whatever reading what is cut, or is no such file, raises.
        except Exception as error:
            kind = f"{type(error).__name__}: {shown(str(error))}"
            raise InputError(
                f"dataset.{part}: cannot read {str(path)!r} ({kind}); expected a `.npz` file or a group of"
                f" Zarr {FORM}"
            ) from error
        if lacking := [name for name in ("images", "labels") if name not in found]:
            raise InputError(
                f"dataset.{part}: {str(path)!r} has no {listed(lacking)}, but"
                f" {listed(sorted(found)) or 'nothing'}; expected arrays {FORM}"
            )
        images, labels = found["images"], found["labels"]
        if labels.dtype.kind not in "iu" or labels.ndim != 1 or len(labels) != len(images):
            raise InputError(
                f"dataset.{part}: {str(path)!r}: labels: found {labels.dtype} {list(labels.shape)}, beside"
                f" images {list(images.shape)}, expected whole numbers, one for each image"
            )
        if "classes" in found:
            classes = [str(name) for name in found["classes"]]
        elif part == "test":
            classes = self.classes
        else:
            classes = [str(c) for c in range(int(labels.max(initial=-1)) + 1)]
        return _Pairs(images, labels, classes, path)


class _Pairs:
    """Images with their classes."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: list[str], path: Path) -> None:
        self.images, self.labels, self.classes, self.files = images, labels, classes, [path]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return self.images[i], int(self.labels[i])


def _npz(path: Path) -> dict[str, np.ndarray]:
    """Its arrays; of a pickle, which could run code, none."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _zarr(path: Path) -> dict[str, np.ndarray]:
    group = zarr.open_group(
        zarr.storage.ZipStore(path, mode="r") if zipfile.is_zipfile(path) else path, mode="r"
    )
    found = {name: np.asarray(array[:]) for name, array in group.arrays()}
    # Text is an attribute in most files.
    return {"classes": np.asarray(group.attrs["classes"])} | found if "classes" in group.attrs else found
