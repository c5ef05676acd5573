"""Photographs: options of the datasets whose images are files, of many sizes, in a folder for each class."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal
from unicodedata import normalize

from pydantic import Field

from detour import folders
from detour.drawn import drawn
from detour.errors import InputError
from detour.options.base import Text
from detour.options.datasets import Dataset, Duplicates, Images, PerClass, Shards
from detour.spelling import listed, unknown

CROP = "side in pixels of the square cut from the centre"
RESIZE = "length in pixels of the shorter side before the crop; null: the same as `crop`"


class Photographs(Dataset):
    """The reference is a folder in the layout of torchvision's ImageFolder, `class/image`."""

    reference: Text = Field(
        description="folder of the images that the classifier was trained on, `class/image`; read where it"
        " lies"
    )
    test: Text
    resize: int | None = Field(None, ge=1, le=8192, description=RESIZE)
    crop: int = Field(ge=1, le=4096, description=CROP)
    per_class: PerClass = None
    duplicates: Duplicates = "error"
    workers: int = Field(
        1,
        ge=1,
        le=10_000,
        description="processes that decode the images of one extraction job, and its threads; with a GPU, as"
        " many as keep it busy",
    )

    of_test: ClassVar = {"test"}
    of_reference: ClassVar = {"per_class"}
    side: ClassVar = "crop"

    @property
    def preprocessing(self) -> dict[str, Any]:
        return {"resize": self.resize or self.crop, "crop": self.crop, "whole": False}

    @property
    def classes(self) -> list[str]:
        return folders.classes(self.reference)

    def problems(self) -> list[str]:
        return [*of_classes(self.reference, "reference"), *self._sizes()]

    def _sizes(self) -> Iterator[str]:
        if self.resize and self.resize < self.crop:
            yield f"dataset.resize: found {self.resize}, allowed: at least `crop`, {self.crop}"

    def reference_count(self, enough: int) -> int:
        count = 0
        for name in self.classes:
            count += sum(1 for _ in islice(folders.images(Path(self.reference, name)), self.per_class))
            if count >= enough:
                break
        return count

    def reference_files(self, seed: int) -> Iterator[Images]:
        root = Path(self.reference)
        for c, name in enumerate(self.classes):
            taken = folders.taken(root / name, self.per_class, seed)
            yield Images(root / name, f"{name}/", dict.fromkeys(taken, (c,)))


class ImageFolder(Photographs):
    """Two folders in the layout of torchvision's ImageFolder, `class/image`."""

    name: Literal["image_folder"]
    test: Text = Field(
        description="folder of the images that are attacked; its classes are among the reference's"
    )
    shards: Shards = 4

    implementation: ClassVar = "detour.datasets.photographs:ImageFolder"

    def test_counts(self) -> dict[str, int]:
        problems, known = list(of_classes(self.test, "test")), self.classes
        found = [] if problems else folders.classes(self.test)
        problems += [_other(name, known) for name in found if name not in known]
        if problems:
            raise InputError("\n".join(problems))
        try:
            return {name: sum(1 for _ in folders.images(Path(self.test, name))) for name in found}
        except OSError as error:
            raise InputError(f"dataset.test: cannot read {error.filename!r} ({error.strerror})") from error

    def test_files(self) -> Iterator[Images]:
        root = Path(self.test)
        for c, name in enumerate(self.classes):
            if (root / name).is_dir():
                yield Images(root / name, f"{name}/", dict.fromkeys(folders.taken(root / name), (c,)))


class Csv(Photographs):
    """Images that two lists name, with their classes."""

    name: Literal["csv"]
    reference: Text = Field(
        description="CSV with the columns `path` and `label`, in any order and among others, of the images"
        " that the classifier was trained on; the classes are its labels, sorted, as numbers if all are"
    )
    test: Text = Field(
        description="the same of the images that are attacked; its classes are among the reference's"
    )
    root: Text | None = Field(
        None, description="folder that the paths in the lists are from; null: that of each list"
    )
    shards: Shards = 4

    implementation: ClassVar = "detour.datasets.photographs:Csv"

    def folder(self, part: str) -> Path:
        """What the paths of a list are from."""
        return Path(self.root) if self.root else Path(getattr(self, part)).parent

    @property
    def classes(self) -> list[str]:
        return list(folders.labelled(self.reference))

    def problems(self) -> list[str]:
        return [*self._lists(), *self._sizes()]

    def _lists(self) -> Iterator[str]:
        for part in ("reference", "test"):
            path = getattr(self, part)
            try:
                found = folders.labelled(path)
            except OSError as error:
                yield f"dataset.{part}: cannot read {path!r} ({error.strerror}); expected a CSV of images"
            except ValueError as error:
                yield f"dataset.{part}: {error}"
            else:
                if len(found) < 2 and part == "reference":
                    yield f"dataset.reference: found {len(found)} labels in {path!r}, expected at least two"
                elif not found:
                    yield f"dataset.test: found no image in {path!r}, expected at least one"

    def test_counts(self) -> dict[str, int]:
        found, known = folders.labelled(self.test), self.classes
        if problems := [_other(name, known) for name in found if name not in known]:
            raise InputError("\n".join(problems))
        return {name: len(paths) for name, paths in found.items()}

    def reference_count(self, enough: int) -> int:
        every = folders.labelled(self.reference).values()
        return sum(min(len(paths), self.per_class or len(paths)) for paths in every)

    def listed(self, part: str, seed: int) -> dict[str, list[str]]:
        """Paths of the images that are used, by class, in the order of the classes."""
        found, at_most = (
            folders.labelled(getattr(self, part)),
            self.per_class if part == "reference" else None,
        )
        return {name: drawn(found.get(name, ()), at_most, seed, name) for name in self.classes}

    def test_files(self) -> Iterator[Images]:
        return self._files("test", 0)

    def reference_files(self, seed: int) -> Iterator[Images]:
        return self._files("reference", seed)

    def _files(self, part: str, seed: int) -> Iterator[Images]:
        for c, (name, paths) in enumerate(self.listed(part, seed).items()):
            if paths or part == "reference":
                yield Images(self.folder(part), "", dict.fromkeys(paths, (c,)), part=name)


class Nips2017(Photographs):
    """The images of the NIPS 2017 adversarial competition, whose classes and targets are ImageNet's; the
    reference as in `image_folder`."""

    name: Literal["nips2017"]
    test: Text = Field(description="folder of `<ImageId>.png`, `crop` x `crop` pixels each")
    labels: Text | None = Field(
        None,
        description="CSV with ImageId, TrueLabel and TargetClass, counted from 1; null: `images.csv` or"
        " `dev_dataset.csv` in the folder or beside it",
    )
    missing: Literal["error", "skip"] = Field(
        "error",
        description="images that the list names and the folder lacks: `error`, or `skip` and say how many",
    )
    resize: int | None = Field(342, ge=1, le=8192, description=RESIZE)
    crop: int = Field(299, ge=1, le=4096, description=CROP)
    shards: Shards = 100

    implementation: ClassVar = "detour.datasets.photographs:Nips2017"
    of_test: ClassVar = {"test", "labels", "missing"}

    @property
    def preprocessing(self) -> dict[str, Any]:
        return super().preprocessing | {"whole": True}

    def test_counts(self) -> dict[str, int]:
        try:
            images, missing = folders.nips2017(self.test, self.labels)
        except OSError as error:
            raise InputError(f"dataset: cannot read {error.filename!r} ({error.strerror})") from error
        classes = len(self.classes)
        beyond = [i.name for i in images if max(i.label, i.target) >= classes]
        if beyond:
            raise InputError(
                f"dataset.labels: {len(beyond)} images have a TrueLabel or TargetClass beyond the {classes}"
                f" classes of the reference: {listed(beyond)}; it needs a folder for each class of ImageNet"
            )
        if missing and self.missing == "error":
            raise InputError(
                f"dataset.test: {self.test} lacks {len(missing)} images of its list: {listed(missing)}; add"
                " them, or leave them out with `missing: skip`"
            )
        if not images:
            raise InputError(f"dataset.test: found none of the listed images in {self.test!r}")
        return Counter(str(image.label + 1) for image in images)

    def test_files(self) -> Iterator[Images]:
        images, _ = folders.nips2017(self.test, self.labels)
        yield Images(Path(self.test), "", {image.name: (image.label, image.target) for image in images})

    def notes(self) -> list[str]:
        images, missing = folders.nips2017(self.test, self.labels)
        if not missing:
            return []
        return [
            f"dataset.test: {len(missing)} of {len(images) + len(missing)} listed images are missing and"
            f" left out: {listed(missing)}"
        ]


def _other(name: str, known: list[str]) -> str:
    """What is wrong with a class of the test that the reference does not have."""
    same = [other for other in known if normalize("NFC", other) == normalize("NFC", name)]
    if same:
        return (
            f"dataset.test: class {name!r} looks like the reference's, and is spelled with other characters"
            f" ({name!a}, expected {same[0]!a}), as macOS writes them; rename one of the two"
        )
    return unknown(f"dataset.test: class {name!r} has no reference images", name, known)


def of_classes(folder: str, key: str) -> Iterator[str]:
    """What is wrong with a folder of classes, a line each."""
    root = Path(folder)
    try:
        found = folders.classes(root)
        if len(found) < 2:
            yield (
                f"dataset.{key}: found {len(found)} folders in {folder!r}, expected one per class and at"
                " least two"
            )
        for name in found:
            if next(folders.images(root / name), None) is None:
                yield (
                    f"dataset.{key}: found no image in {str(root / name)!r}, expected at least one"
                    f" ({', '.join(folders.EXTENSIONS)}); add images or remove the folder"
                )
    except OSError as error:
        yield (
            f"dataset.{key}: cannot read {str(error.filename or root)!r} ({error.strerror}); expected a"
            " folder with one folder of images per class"
        )
    except ValueError as error:
        yield f"dataset.{key}: {error}"
