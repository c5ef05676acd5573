"""Folders of images: what counts as a class and as an image; without torch, for checks before any job."""

import csv
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from detour.spelling import listed

# Those of torchvision's ImageFolder.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

# What the list of the NIPS 2017 images may be called.
LISTS = ("images.csv", "dev_dataset.csv")


def classes(root: str | Path) -> list[str]:
    """Names of the folders in `root`, sorted; without hidden ones, such as checkpoints of notebooks."""
    return sorted(e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith("."))


def images(folder: str | Path) -> Iterator[str]:
    """Paths of the image files anywhere in `folder`, relative to it; lazily, in no order."""
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from (f"{entry.name}/{path}" for path in images(entry.path))
        elif entry.name.lower().endswith(EXTENSIONS) and not entry.name.startswith("."):
            yield entry.name


def taken(folder: str | Path, number: int, at_most: int | None = None, seed: int = 0) -> list[str]:
    """Paths of the images of a class that are used, relative to its folder, sorted; [] without a folder.

    Parameters
    ----------
    number
        The class, as an index.
    at_most
        If there are more images, so many are drawn; None: all are used.
    """
    found = sorted(images(folder)) if Path(folder).is_dir() else []
    if at_most is None or len(found) <= at_most:
        return found
    # Imported here, because it imports NumPy, without which most runs can start.
    from detour.seeds import draw

    drawn = draw(seed, "reference images", number).permutation(len(found))[:at_most]
    return [found[i] for i in sorted(drawn)]


def shards(classes: int, count: int) -> list[range]:
    """Cut the classes into `count` consecutive ranges; the first ones are longer by one if need be."""
    size, longer = divmod(classes, count)
    starts = [i * size + min(i, longer) for i in range(count + 1)]
    return [range(a, b) for a, b in pairwise(starts)]


class Listed(NamedTuple):
    """An image of a list: its name, its class and the class to aim at, counted from 0."""

    name: str
    label: int
    target: int


def nips2017(folder: str | Path, labels: str | Path | None = None) -> tuple[list[Listed], list[str]]:
    """The images of the NIPS 2017 adversarial competition in a folder, by their list.

    Parameters
    ----------
    folder
        Folder of `<ImageId>.png`.
    labels
        CSV with the columns ImageId, TrueLabel and TargetClass, counted from 1; None: `images.csv` or
        `dev_dataset.csv` in the folder or beside it.

    Returns
    -------
    The images that are there, in the order of the list, and the names of those that are not.

    Raises
    ------
    ValueError
        If there is no list, a row is invalid, or the folder has images that are not on the list.
    """
    path = Path(labels) if labels else _list_of(Path(folder))
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        lacking = {"ImageId", "TrueLabel", "TargetClass"} - set(rows.fieldnames or ())
        if lacking:
            raise ValueError(f"{path}: found no column {listed(sorted(lacking))} in its first line")
        images = [_listed(row, f"{path}, line {rows.line_num}") for row in rows]
    known = {image.name for image in images}
    if len(known) < len(images):
        raise ValueError(
            f"{path}: names {len(images) - len(known)} images more than once, expected each once"
        )
    there = {entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(".png")}
    if unlisted := sorted(there - known):
        raise ValueError(
            f"{folder}: has {len(unlisted)} images that {path} does not name: {listed(unlisted)}; move them"
            " away or add their rows"
        )
    return [i for i in images if i.name in there], [i.name for i in images if i.name not in there]


def _list_of(folder: Path) -> Path:
    for path in (parent / name for parent in (folder, folder.parent) for name in LISTS):
        if path.is_file():
            return path
    raise ValueError(
        f"{folder}: found none of {listed(LISTS)} in it or beside it, expected the list of its images;"
        " name it in dataset.labels"
    )


def _listed(row: dict[str, str], where: str) -> Listed:
    name = row["ImageId"]
    if not name or name != Path(name).name or name.startswith("."):
        raise ValueError(f"{where}: ImageId: found {name!r}, expected the name of a file in the folder")
    try:
        label, target = int(row["TrueLabel"]) - 1, int(row["TargetClass"]) - 1
    except (TypeError, ValueError):
        raise ValueError(
            f"{where}: TrueLabel, TargetClass: found {row['TrueLabel']!r}, {row['TargetClass']!r}, expected"
            " whole numbers from 1"
        ) from None
    if label == target or label < 0 or target < 0:
        raise ValueError(
            f"{where}: TrueLabel, TargetClass: found {label + 1}, {target + 1}, expected two classes,"
            " counted from 1"
        )
    return Listed(f"{name}.png", label, target)
