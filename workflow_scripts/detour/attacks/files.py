"""Files: adversarial images that were made elsewhere, by name or in order."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detour import pngs
from detour.attacks.batch import Batch
from detour.classifiers import Classifier
from detour.errors import InputError
from detour.options.attacks.files import Files


def read(classifier: Classifier, batch: Batch, attack: Files) -> Tensor:
    """The images that belong to those of the batch, float32 [b, 3, H, W] in [0, 1].

    Raises
    ------
    InputError
        If one is missing, cannot be decoded, or has another size.
    """
    path = Path(attack.path)
    if path.is_dir():
        rows = batch.rows or slice(None)
        places = zip(batch.names[rows], _places(tuple(batch.names))[rows], strict=True)
        found = np.stack([_image(path, name, place, batch.x.shape[1:]) for name, place in places])
    else:
        found = _array(path, batch)[batch.rows]
    return torch.from_numpy(found).to(batch.x.device).float() / 255


@cache
def _places(names: tuple[str, ...]) -> list[str]:
    try:
        return pngs.files(names)
    except InputError as error:
        raise InputError(f"{error}, or give the attacked images in their order, as a .npy") from error


def _image(folder: Path, name: str, place: str, shape: torch.Size) -> np.ndarray:
    from detour.pixels import decoded

    path = next((folder / known for known in (name, place) if (folder / known).is_file()), None)
    if path is None:
        raise InputError(
            f"{folder}: found no image for the test image {name!r}, expected {name!r} or {place!r}; the names"
            " are those of `snakemake pngs`"
        )
    try:
        image = decoded(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if image.shape != shape:
        raise InputError(
            f"{path}: found {image.shape[2]} x {image.shape[1]} pixels, expected {shape[2]} x {shape[1]}, as"
            " the test images have"
        )
    return image.numpy()


def _array(path: Path, batch: Batch) -> np.ndarray:
    """uint8 [n, 3, H, W]"""
    stat = path.stat()
    images = _loaded(path, (stat.st_size, stat.st_mtime_ns))
    shape = (batch.count, *batch.x.shape[1:])
    # As most other tools have them.
    if images.ndim == 4 and images.shape[-1] == 3 and images.shape[1] != 3:
        images = images.transpose(0, 3, 1, 2)
    if images.dtype != np.uint8 or images.shape != shape:
        raise InputError(
            f"{path}: found {images.dtype} {list(images.shape)}, expected uint8 {list(shape)}, or the"
            " channels last, an image for each test image in their order"
        )
    return images


@cache
def _loaded(path: Path, version: tuple[int, int]) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path}: found no file of NumPy ({error}), expected .npy or .npz without pickles"
        ) from error
    if isinstance(found, np.ndarray):
        return found
    name = "images" if "images" in found.files else found.files[0]
    if len(found.files) > 1 and name != "images":
        raise InputError(
            f"{path}: found the arrays {', '.join(found.files)}, expected one, or `images` among them"
        )
    return found[name]
