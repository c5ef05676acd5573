"""Folders of images: what counts as a class and as an image; without torch, for checks before any job."""

import csv
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from detour.drawn import drawn
from detour.errors import InputError
from detour.spelling import listed, shown

# Those of torchvision's ImageFolder.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

# Of the largest image that is decoded, not compressed: more is not read.
BYTES = 2**29

# Folders that systems and shares make beside what is in them, in lower case; hidden ones are skipped anyway.
OF_SYSTEMS = ("@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__macosx")

# What can be in a folder beside files and folders.
KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)

# What the list of the NIPS 2017 images may be called.
LISTS = ("images.csv", "dev_dataset.csv")


def refuse_braces(project: str | Path) -> None:
    """Refuse a project at a path with braces, which Snakemake takes for wildcards.

    Raises
    ------
    ValueError
        With the path.
    """
    if re.search("[{}]", str(project)):
        raise InputError(
            f"the project is at {shown(str(project))}, and Snakemake takes braces in a path for wildcards;"
            " move it to a folder whose path has none"
        )


def classes(root: str | Path) -> list[str]:
    """Names of the folders in `root`, sorted; without hidden ones and those of systems.

    Raises
    ------
    ValueError
        If a link leads nowhere: without its class, others would have another number.
    """
    found = [entry for entry in os.scandir(root) if not _skipped(entry.name)]
    for entry in found:
        if entry.is_symlink():
            _status(entry.path)
    return sorted(entry.name for entry in found if entry.is_dir())


def images(folder: str | Path, within: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """Paths of the image files anywhere in `folder`, relative to it; lazily, in no order, no hidden ones.

    Parameters
    ----------
    within
        The folders that it is in, by device and inode.

    Raises
    ------
    ValueError
        If a link leads back to a folder that it is in, or what is called like an image is no regular file.
    """
    status = os.stat(folder)  # noqa: PTH116
    here = (status.st_dev, status.st_ino)
    if here in within:
        raise InputError(f"{shown(str(folder))}: found a link to a folder that it is in; remove it")
    for entry in os.scandir(folder):
        if _skipped(entry.name):
            continue
        if _is_folder(entry):
            yield from (f"{entry.name}/{path}" for path in images(entry.path, within | {here}))
        elif entry.name.lower().endswith(EXTENSIONS):
            # Of most file systems, known without asking for each file.
            if not entry.is_file(follow_symlinks=False):
                regular(entry.path)
            yield entry.name


def _skipped(name: str) -> bool:
    """Whether a file or folder is hidden, of a system, or the lock of a document that is open (`~$a.png`)."""
    return name.startswith((".", "~$")) or name.lower() in OF_SYSTEMS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself.
        return False


def regular(path: str | Path) -> os.stat_result:
    """The status of a regular file, or of what a link to one leads to; anything else could be read for ever.

    Raises
    ------
    ValueError
        If it is none.
    OSError
        If it is not there.
    """
    status = _status(path)
    if not stat.S_ISREG(status.st_mode):
        kind = next((kind for holds, kind in KINDS if holds(status.st_mode)), "something else")
        raise InputError(f"{shown(str(path))}: found {kind}, expected a regular file; remove it")
    return status


def _status(path: str | Path) -> os.stat_result:
    try:
        # On a string twice as fast as Path.stat.
        return os.stat(path)  # noqa: PTH116
    except OSError as error:
        if Path(path).is_symlink():
            raise InputError(
                f"{shown(str(path))}: found a link that leads nowhere ({error.strerror}); remove or mend it"
            ) from error
        raise


def content(path: str | Path) -> bytes:
    """The bytes of an image file.

    Raises
    ------
    ValueError
        If it is no regular file, or has more than `BYTES`.
    """
    size = regular(path).st_size
    if size > BYTES:
        raise InputError(f"{shown(str(path))}: found {size:,} bytes, allowed: at most {BYTES:,}")
    return Path(path).read_bytes()


# Age in ns from which a file's time of change can be relied on: a later change gets another time.
SETTLED = 2 * 10**9


def state(paths: Iterable[str | Path]) -> dict[str, list[int]]:
    """Size, times of change and inode of files, and of all in folders, by their paths; [] of what is new.

    As in Git's index, a file whose state is the same has the same content.
    """
    found: dict[str, list[int]] = {}
    settled = time.time_ns() - SETTLED
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            status = file.stat()
            changed = [status.st_mtime_ns, status.st_ctime_ns]
            known = [status.st_size, *changed, status.st_ino] if max(changed) < settled else []
            found[str(file.absolute())] = known
    return found


def taken(folder: str | Path, at_most: int | None = None, seed: int = 0) -> list[str]:
    """Paths of the images of a class that are used, relative to its folder, sorted; [] without a folder.

    Parameters
    ----------
    at_most
        If there are more images, so many are drawn, by their names: another image changes at most one of
        them. None: all are used.
    """
    found = images(folder) if Path(folder).is_dir() else ()
    return drawn(found, at_most, seed, Path(folder).name)


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
    images = _rows(path, COLUMNS, _listed)
    twice = [name for name, count in Counter(image.name for image in images).items() if count > 1]
    if twice:
        raise InputError(
            f"{path}: names {len(twice)} images more than once, expected each once: {listed(twice)}"
        )
    there = set()
    for entry in os.scandir(folder):
        if entry.name.lower().endswith(".png") and not _skipped(entry.name):
            regular(entry.path)
            there.add(entry.name)
    if any(name.lower().endswith(".png.png") and name[:-4] in there for name in (i.name for i in images)):
        raise InputError(
            f"{path}: ImageId: found names that end in .png, expected those of the files"
            " without it; remove it"
        )
    if unlisted := sorted(there - {image.name for image in images}):
        raise InputError(
            f"{folder}: has {len(unlisted)} images that {path} does not name: {listed(unlisted)}; move them"
            " away or add their rows"
        )
    return [i for i in images if i.name in there], [i.name for i in images if i.name not in there]


COLUMNS = ("ImageId", "TrueLabel", "TargetClass")


Row = TypeVar("Row")


def _rows(path: Path, columns: Sequence[str], parsed: Callable[[dict[Any, Any], str, int], Row]) -> list[Row]:
    """The rows of a list, separated by commas, semicolons or tabs, with any line ends.

    Parameters
    ----------
    columns
        Those that it has to have.
    parsed
        What becomes of a row, of where it is for errors, and of the number of columns.
    """
    regular(path)
    # With or without a BOM; other columns may be in any encoding.
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = file.readlines()
        # Blank ones do no harm, before the header, too; line numbers count them.
        first = next((i for i, line in enumerate(lines) if line.strip()), 0)
        head = lines[first] if lines else ""
        delimiter = max(",;\t", key=head.count)
        kept = (line if line.strip() else "\n" for line in lines[first:])
        rows = csv.DictReader(kept, delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            names = [name.strip() for name in rows.fieldnames or ()]
            if lacking := [name for name in columns if name not in names]:
                raise InputError(
                    f"{path}: found no column {listed(lacking)} in its first line, which has"
                    f" {listed(names) or 'nothing'}; expected a CSV in UTF-8 with {listed(columns)}"
                )
            if repeated := [name for name in columns if names.count(name) > 1]:
                raise InputError(
                    f"{path}: found column {listed(repeated)} more than once; remove all but one"
                )
            rows.fieldnames = names
            return [parsed(row, f"{path}, line {first + rows.line_num}", len(names)) for row in rows]
        except csv.Error as error:
            raise InputError(
                f"{path}, line {first + rows.line_num}: is no row of a CSV ({error}); correct or remove it"
            ) from error


def _list_of(folder: Path) -> Path:
    for path in (parent / name for parent in (folder, folder.parent) for name in LISTS):
        if path.is_file():
            return path
    raise InputError(
        f"{folder}: found none of {listed(LISTS)} in it or beside it, expected the list of its images;"
        " name it in dataset.labels"
    )


def _listed(row: dict[Any, Any], where: str, columns: int) -> Listed:
    name, *numbers = (value and value.strip() for value in map(row.get, COLUMNS))
    if not name or name != Path(name).name or name.startswith("."):
        raise InputError(f"{where}: ImageId: found {name!r}, expected the name of a file in the folder")
    # Not `int` alone, which takes 1_0 and other scripts' digits.
    if not all(re.fullmatch("[0-9]{1,9}", number or "") for number in numbers):
        found = ", ".join(map(repr, numbers))
        raise InputError(f"{where}: TrueLabel, TargetClass: found {found}, expected whole numbers from 1")
    _refuse_ragged(row, where, columns)
    label, target = (int(number or 0) for number in numbers)
    if label == target or label < 1 or target < 1:
        raise InputError(
            f"{where}: TrueLabel, TargetClass: found {label}, {target}, expected two classes, counted from 1"
        )
    return Listed(f"{name}.png", label - 1, target - 1)


def _refuse_ragged(row: dict[Any, Any], where: str, columns: int) -> None:
    """Too many values, or too few, move those behind to other columns."""
    if None in row or None in row.values():
        raise InputError(
            f"{where}: found another number of values than the {columns} of the first line; put values"
            " that have commas into quotes"
        )


def labelled(path: str | Path) -> dict[str, list[str]]:
    """Paths of images by their class, as a CSV with the columns `path` and `label` has them.

    Returns
    -------
    dict
        The classes sorted, numbers as such, and the paths of each, which are sorted too.

    Raises
    ------
    ValueError
        If it is no such list, or names an image twice.
    """
    status = regular(path)
    return _labelled(Path(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@cache
def _labelled(path: Path, *changed: int) -> dict[str, list[str]]:
    """Read once in a process, unless it changed."""
    found = _rows(path, ("path", "label"), _pair)
    twice = [name for name, count in Counter(name for name, _ in found).items() if count > 1]
    if twice:
        raise InputError(
            f"{path}: names {len(twice)} images more than once, expected each once: {listed(twice)}"
        )
    of_class: dict[str, list[str]] = {}
    for name, label in found:
        of_class.setdefault(label, []).append(name)
    numbers = all(re.fullmatch("[0-9]{1,9}", label) for label in of_class)
    classes = sorted(of_class, key=lambda label: (int(label) if numbers else 0, label))
    return {label: sorted(of_class[label]) for label in classes}


def _pair(row: dict[Any, Any], where: str, columns: int) -> tuple[str, str]:
    name, label = ((row[key] or "").strip() for key in ("path", "label"))
    _refuse_ragged(row, where, columns)
    if not name or Path(name).is_absolute() or "\0" in name:
        raise InputError(f"{where}: path: found {name!r}, expected the path of a file from `dataset.root`")
    if not label:
        raise InputError(f"{where}: label: found nothing, expected the name of a class")
    return name, label


def orientation_note(names: Sequence[str]) -> str:
    """What to say of images that ask to be turned."""
    have = "1 image has" if len(names) == 1 else f"{len(names)} images have"
    return (
        f"{have} an EXIF orientation, which is not followed, as in torchvision's ImageFolder; if the network"
        f" was trained on upright ones, turn them: {listed(names)}"
    )


def copies_note(pairs: Sequence[str]) -> str:
    """What to say of test images that are there twice."""
    if len(pairs) == 1:
        return f"1 image is a copy of another, with which it shares its folds: {listed(pairs)}"
    return f"{len(pairs)} images are copies of others, with which they share their folds: {listed(pairs)}"
