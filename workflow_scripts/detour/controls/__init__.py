"""Controls: the stored bytes are changed by what is no attack, and looks at no network.

A detector that flags them takes damage for an attack. Each family of changes has a module here, and its
options another; torchvision does the changing where it can.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detour import methods, store
from detour.errors import InputError
from detour.logs import logger, progress
from detour.options.controls import Control
from detour.seeds import draw
from detour.store import NO_TARGET, Made

# Images at a time; each is changed by itself, so that their number changes none.
BATCH = 100


def changed(images: np.ndarray, control: Control, seeds: list[int]) -> np.ndarray:
    """Change one batch.

    Parameters
    ----------
    images : uint8 [b, 3, H, W]
    seeds
        One per image, for changes that draw.

    Returns
    -------
    uint8 [b, 3, H, W]

    Raises
    ------
    InputError
        If code from outside returns anything else.
    """
    change = methods.loaded(control.implementation)
    found = [
        change(image, control, seed) for image, seed in zip(torch.from_numpy(images), seeds, strict=True)
    ]
    for image in found:
        if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.shape != images.shape[1:]:
            what = f"{image.dtype} {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise InputError(
                f"control {control.name!r}: {control.method} returned {what}, expected a tensor torch.uint8"
                f" {list(images.shape[1:])}"
            )
    return torch.stack(found).numpy()


def change(images: str | Path, out: str | Path, *, control: Control, seed: int, made: Made) -> None:
    """Store the changed version of a store of images, row for row.

    Parameters
    ----------
    images
        Path of the original images.
    seed
        Seed of this run; the draws of an image depend on it, the control's name and the image's key.

    Notes
    -----
    `target` is -1 throughout: nothing is aimed at.
    """
    original = store.read(images)
    label, source, keys = (original[name][:] for name in ("label", "source", "key"))
    n, still = len(label), 0

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        nonlocal still
        starts = range(0, n, BATCH)
        for start in progress(starts, len(starts), f"{control.name}: batches of {BATCH}"):
            rows = slice(start, start + BATCH)
            seeds = [int(draw(seed, f"draws of {control.name}", i).integers(2**63)) for i in keys[rows]]
            before = original["images"][rows]
            found = changed(before, control, seeds)
            still += int((found == before).all((1, 2, 3)).sum())
            yield {
                "images": found,
                "label": label[rows],
                "target": np.full_like(label[rows], NO_TARGET),
                "source": source[rows],
            }

    with store.create(out, made, [images], classes=original.attrs["classes"]) as group:
        store.write(group, blocks())
    if still:
        logger.warning(
            "%s: %d of %d images are as they were (too weak, or grey without colours): they are flagged as"
            " the originals are, and show nothing",
            control.name, still, n,
        )  # fmt: skip
