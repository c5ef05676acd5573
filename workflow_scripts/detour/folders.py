"""Folders of images: what counts as a class and as an image, without torch, for checks before any job."""

import os
from collections.abc import Iterator
from pathlib import Path

# Those of torchvision's ImageFolder.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def classes(root: str | Path) -> list[str]:
    """Names of the folders in `root`, sorted; hidden ones, as of notebooks' checkpoints, are no classes."""
    return sorted(e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith("."))


def images(folder: str | Path) -> Iterator[str]:
    """Names of the image files anywhere in `folder`, which ImageFolder would read; lazily."""
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from images(entry.path)
        elif entry.name.lower().endswith(EXTENSIONS):
            yield entry.name
