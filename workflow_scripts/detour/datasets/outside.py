"""Outside: datasets whose images are asked for by number, of code from outside or of this project."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import PrivateAttr
from torch import Tensor
from torch.utils.data import Dataset

from detour import datasets, folders, methods
from detour.datasets import Labelled
from detour.errors import InputError
from detour.options import datasets as options
from detour.options.datasets import name_of
from detour.spelling import listed, quoted, shown

PARTS = ("test", "reference")


class Indexed(options.Indexed):
    """Whatever has a length, `[i]` as an image and its class, and the names of the classes.

    Parameters
    ----------
    seed
        Of the reference images that are drawn, where there are more of a class than `per_class`.
    """

    seed: int = 0

    # In memory, most of them, and nothing says that what reads others can be forked.
    decodes: ClassVar = False
    _opened: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def what(self) -> str:
        """What it is, for errors."""
        return self.name

    def open(self, part: str) -> Any:
        """The images of a part, `test` or `reference`, as described above."""
        raise NotImplementedError

    def images(self, part: str) -> Any:
        """The same, opened once."""
        if part not in self._opened:
            self._opened[part] = self.open(part)
        return self._opened[part]

    @property
    def classes(self) -> list[str]:
        if "classes" not in self._opened:
            self._opened["classes"] = self.names_of("reference")
        return self._opened["classes"]

    def names_of(self, part: str) -> list[str]:
        """The names of the classes that a part has."""
        found = getattr(self.images(part), "classes", None)
        if isinstance(found, str) or not isinstance(found, Sequence | np.ndarray):
            raise InputError(
                f"{self.what}: what it returns has no list `classes`, expected the names of the classes in"
                " the order of the classifier's outputs"
            )
        names = [str(name) for name in found]
        if len(set(names)) < max(2, len(names)):
            raise InputError(
                f"{self.what}: classes: found {listed(names) or 'none'}, expected at least two, none twice"
            )
        return names

    @property
    def class_names(self) -> list[str]:
        return self.classes

    def read(self, part: str, i: int) -> tuple[Tensor, int, str]:
        """An image, uint8 [3, H, W], its class, and its name if it asks to be turned.

        Raises
        ------
        InputError
            If it cannot be read, or is none.
        """
        from detour.pixels import of_memory

        where = f"{self.what}: {part} {i}"
        with _told(where):
            found = self.images(part)[i]
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise InputError(f"{where}: found a {type(found).__name__}, expected a pair of image and class")
        label = _class(found[1], len(self.classes), where)
        with _told(where):
            pixels, turned = of_memory(found[0])
        return pixels, label, f"{part} {i}" if turned else ""

    def fit(self, image: Tensor) -> Tensor:
        from detour.pixels import fitted

        return fitted(image, self.size, self.size) if self.size else image

    def labels(self, part: str) -> list[int]:
        """The classes of all images: from `labels` or `targets`, which are there without decoding."""
        found, count = self.images(part), len(self.classes)
        given = next((getattr(found, name) for name in LABELS if hasattr(found, name)), None)
        if given is None:
            return [self.read(part, i)[1] for i in range(len(found))]
        return [_class(label, count, f"{self.what}: {part} {i}") for i, label in enumerate(given)]

    def test_images(self) -> Labelled:
        return self._part("test")

    def reference_images(self, classes: Sequence[int] | None = None) -> Labelled:
        """Those of some classes, in their order; None: of all."""
        return self._part("reference", classes)

    def _part(self, part: str, classes: Sequence[int] | None = None) -> Labelled:
        label = self.labels(part)
        rows = [i for i in self.used(part, label, self.seed) if classes is None or label[i] in classes]
        used = np.array([label[i] for i in rows], dtype=np.int64)
        return Labelled(_Rows(self, part, rows), used, name_of(part, rows))


LABELS = ("labels", "targets")


class _Rows(Dataset[Any]):
    """Some images of a part, read and fitted when asked for."""

    def __init__(self, dataset: Indexed, part: str, rows: list[int]) -> None:
        self.dataset, self.part, self.rows = dataset, part, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: int) -> tuple[Tensor, int, str]:
        pixels, label, turned = self.dataset.read(self.part, self.rows[k])
        return self.dataset.fit(pixels), label, turned


class Outside(Indexed, options.Outside):
    """What a function returns."""

    def open(self, part: str) -> Any:
        function = methods.loaded(self.name)
        try:
            inspect.signature(function).bind(part, **self.options)
        except (TypeError, ValueError) as error:
            called = "function(part, **options)"
            raise InputError(
                f"{self.name} cannot be called as {called}: {error}; correct `options`"
            ) from None
        with _told(f"{self.name} ({part})"):
            found = function(part, **self.options)
        if lacking := [name for name in ("__len__", "__getitem__") if not hasattr(found, name)]:
            raise InputError(
                f"{self.name} returned a {type(found).__name__} for {part!r}, which has no"
                f" {' and no '.join(lacking)}, expected a length, and [i] as an image and its class"
            )
        return found


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Say where it was that code raised whatever it did."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except Exception as error:
        raise InputError(f"{where}: raised {type(error).__name__}: {shown(str(error))}") from error


def _class(label: Any, classes: int, where: str) -> int:
    if isinstance(label, np.ndarray | Tensor) and label.ndim == 0:
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, int | np.integer) or not 0 <= label < classes:
        raise InputError(
            f"{where}: class: found {quoted(label)}, expected a whole number from 0 to {classes - 1}, the"
            " last of its `classes`"
        )
    return int(label)


def described(asked: options.Indexed) -> dict[str, Any]:
    """What the workflow has to know of a dataset before any job, after a look at all its images.

    Returns
    -------
    dict
        `classes`; `size`, their side; of each part `label` and `digest`, which is that of the pixels;
        `files`, what it was read from, and their `state`.

    Raises
    ------
    InputError
        If something of it cannot be used.
    """
    dataset: Any = datasets.dataset(asked.model_dump())
    said: dict[str, Any] = {"classes": dataset.classes}
    sizes: dict[tuple[int, int], str] = {}
    files: list[str] = []
    state: dict[str, list[int]] = {}
    for part in PARTS:
        images = dataset.images(part)
        # Before they are read: what changes meanwhile is read again at the next start.
        paths = [str(Path(path).absolute()) for path in getattr(images, "files", ())]
        files, state = [*files, *paths], state | folders.state(paths)
        if len(images) == 0:
            raise InputError(f"{dataset.what}: {part}: found no image, expected at least one")
        named = getattr(images, "classes", None) is not None
        if named and (names := dataset.names_of(part)) != said["classes"]:
            raise InputError(
                f"{dataset.what}: classes: found {listed(names)} of the {part}, and"
                f" {listed(said['classes'])} of the reference, expected the same, in the same order"
            )
        label, digest = [], []
        for i in range(len(images)):
            pixels, c, _ = dataset.read(part, i)
            label.append(c)
            digest.append(_digest(pixels))
            sizes.setdefault((pixels.shape[2], pixels.shape[1]), f"{part} {i}")
            if i == 0:
                dataset.fit(pixels)
                if _digest(dataset.read(part, i)[0]) != digest[0]:
                    raise InputError(
                        f"{dataset.what}: {part} 0 has other pixels when it is read again, expected the same;"
                        " leave out what is drawn anew"
                    )
        _agree(dataset, part, label)
        said[part] = {"label": label, "digest": digest}
    there = set(said["reference"]["label"])
    if empty := [name for c, name in enumerate(said["classes"]) if c not in there]:
        raise InputError(
            f"{dataset.what}: reference: found no image of {listed(empty)}, expected at least one of each"
            " class"
        )
    return said | {"size": _side(dataset, sizes), "files": files, "state": state}


def _agree(dataset: Any, part: str, label: list[int]) -> None:
    given = dataset.labels(part) if any(hasattr(dataset.images(part), name) for name in LABELS) else label
    if given != label:
        at = next((i for i, pair in enumerate(zip(given, label, strict=False)) if len(set(pair)) > 1), None)
        one = f", of {part} {at} {given[at]} and {label[at]}" if at is not None else ""
        raise InputError(
            f"{dataset.what}: {part}: its `labels` or `targets` ({len(given)}) are not the classes that its"
            f" images come with ({len(label)}){one}; expected the same"
        )


def _side(dataset: Any, sizes: dict[tuple[int, int], str]) -> int:
    if dataset.size:
        return dataset.size
    if len(sizes) > 1:
        (size, name), (other, another), *_ = sizes.items()
        raise InputError(
            f"{dataset.what}: found {another} of {other[0]} x {other[1]} pixels, and {name} of {size[0]} x"
            f" {size[1]}, expected one size; set `dataset.size` to resize them"
        )
    ((w, h),) = sizes
    if w != h:
        raise InputError(
            f"{dataset.what}: found images of {w} x {h} pixels, expected squares; set `dataset.size`"
        )
    return w


def _digest(pixels: Tensor) -> str:
    about = blake2b(str(list(pixels.shape)).encode(), digest_size=16)
    about.update(pixels.numpy().tobytes())
    return about.hexdigest()
