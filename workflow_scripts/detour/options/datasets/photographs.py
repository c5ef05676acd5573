"""Photographs: options of the datasets whose images are files, of many sizes, in a folder for each class."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal
from unicodedata import normalize

from pydantic import Field

from detour import folders
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
    def classes(self) -> list[str]:
        return folders.classes(self.reference)

    def problems(self) -> list[str]:
        found = list(of_classes(self.reference, "reference"))
        if self.resize and self.resize < self.crop:
            found.append(f"dataset.resize: found {self.resize}, allowed: at least `crop`, {self.crop}")
        return found

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
