"""Datasets: what every dataset says of itself before any job; each family of datasets has a module here."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, PrivateAttr

from detour.drawn import dealt, drawn
from detour.options.base import ARGUMENTS, Arguments, Count, Method, Reference
from detour.options.catalogue import found

# Keys that change no image.
HANDLING = {"shards", "workers", "duplicates", "download"}

Shards = Annotated[
    Count,
    Field(
        description="extraction jobs that the reference images are cut into, by whole classes; where it is"
        " left out, at most one per class"
    ),
]

PerClass = Annotated[
    Annotated[int, Field(ge=1, le=10_000_000)] | None,
    Field(description="reference images of each class at most, drawn by the seed; null: all"),
]
Duplicates = Annotated[
    Literal["error", "allow"],
    Field(
        description="images that are in the test and in the reference too: `error`, or `allow` and say which"
    ),
]


class Images(NamedTuple):
    """Images of a folder, or of what has none.

    Attributes
    ----------
    folder
        Where they are.
    under
        What stands before their names where people read them, such as that of their class.
    about
        By name, their class and, if the dataset has one, the class to aim at, from 0.
    digests
        By name, of their pixels; None: they are files of the folder, and it is their contents that count.
    part
        What other images of the same folder are kept apart by, where there are many.
    """

    folder: Path
    under: str
    about: dict[str, tuple[int, ...]]
    digests: dict[str, str] | None = None
    part: str = ""


class Dataset(Method):
    """The section `dataset`."""

    name: str
    shards: Shards

    # Keys that say nothing of the reference images.
    of_test: ClassVar[set[str]] = set()
    # Keys that say nothing of the test images.
    of_reference: ClassVar[set[str]] = set()
    # The key of the images' side in pixels.
    side: ClassVar[str]

    @property
    def pixels(self) -> int:
        """Side of the images in pixels."""
        return getattr(self, self.side)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What test images go through: `resize`, `crop`, and whether those of that size stay as they are."""
        return {"resize": self.pixels, "crop": self.pixels, "whole": False}

    def place(self, part: str) -> str:
        """Where people find the images of the `test`, or of the `reference`."""
        return repr(getattr(self, part))

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the classifier's outputs."""
        raise NotImplementedError

    def problems(self) -> list[str]:
        """What is wrong, a line each; the other methods hold for a dataset without problems."""
        return []

    def fitting(self) -> Self:
        """This dataset with at most a shard a class, where their number is the default."""
        if "shards" in self.model_fields_set:
            return self
        return self.model_copy(update={"shards": min(self.shards, len(self.classes))})

    def notes(self) -> list[str]:
        """What to say before a run starts, which does not stop it."""
        return []

    def test_counts(self) -> dict[str, int]:
        """The number of test images of each class, or of groups of them that do not leave out the rarest.

        Raises
        ------
        InputError
            With a line for each thing that is wrong with them.
        """
        raise NotImplementedError

    def reference_count(self, enough: int) -> int:
        """Number of reference images, or so many as are enough: to count those of ImageNet takes long."""
        raise NotImplementedError

    def test_files(self) -> Iterator[Images]:
        """The files of the test images; none of what is in memory."""
        yield from ()

    def reference_files(self, seed: int) -> Iterator[Images]:
        """The files of each class's reference images, in the order of the classes; none of what is in memory.

        Parameters
        ----------
        seed
            Of what is drawn of them.
        """
        yield from ()

    def section(self, part: str, seed: int) -> dict[str, Any]:
        """What the `test` images, or those of the `reference`, depend on: a job is told no other key.

        Parameters
        ----------
        seed
            Of what is drawn of them.
        """
        found = self.model_dump(exclude=HANDLING | (self.of_reference if part == "test" else self.of_test))
        return found | {"seed": seed} if found.get("per_class") else found


SIZE = (
    "side in pixels: the shorter side is resized to it, and the square cut from the centre; null: the images"
    " are square and of one size as they are"
)
TEST = (
    "number of test images, drawn with the classes in their shares, the same in every run; those of a smaller"
    " number are among those of a larger one; null: all"
)

Size = Annotated[Annotated[int, Field(ge=1, le=4096)] | None, Field(description=SIZE)]
Test = Annotated[Annotated[int, Field(ge=2, le=10_000_000)] | None, Field(description=TEST)]


class Indexed(Dataset):
    """Images that are asked for by number; what they are is asked in a process of its own."""

    size: Size = None
    per_class: PerClass = None
    duplicates: Duplicates = "error"
    shards: Shards = 4

    of_test: ClassVar = {"test"}
    of_reference: ClassVar = {"per_class"}
    side: ClassVar = "size"
    described: ClassVar = "detour.datasets.outside:described"
    # Keys that choose among the images, or change none.
    choosing: ClassVar[set[str]] = {"test", "per_class", "duplicates", "shards"}
    # What `detour.datasets.outside.described` says of it, filled in when the run is read.
    _said: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def count(self) -> int | None:
        """Number of test images; None: all."""
        return getattr(self, "test", None)

    @property
    def pixels(self) -> int:
        return self.size or self._said["size"]

    @property
    def classes(self) -> list[str]:
        return self._said["classes"]

    def place(self, part: str) -> str:
        return f"the {part}"

    def problems(self) -> list[str]:
        there = len(self._said["test"]["label"])
        if self.count and self.count > there:
            return [f"dataset.test: found {self.count}, allowed: at most all test images, {there}"]
        return []

    def used(self, part: str, label: Sequence[int], seed: int) -> list[int]:
        """Numbers of the images of a part that are used: of the reference, one class after the other."""
        names = name_of(part, range(len(label)))
        if part == "test":
            return sorted(dealt(label, names)[: self.count]) if self.count else list(range(len(label)))
        of_class: list[list[int]] = [[] for _ in self.classes]
        for i, c in enumerate(label):
            of_class[c].append(i)
        rows: list[int] = []
        for c, every in enumerate(of_class):
            taken = set(drawn([names[i] for i in every], self.per_class, seed, self.classes[c]))
            rows += [i for i in every if names[i] in taken]
        return rows

    def test_counts(self) -> dict[str, int]:
        label = self._said["test"]["label"]
        return Counter(self.classes[label[i]] for i in self.used("test", label, 0))

    def reference_count(self, enough: int) -> int:
        counts = Counter(self._said["reference"]["label"]).values()
        return sum(min(count, self.per_class or count) for count in counts)

    def test_files(self) -> Iterator[Images]:
        yield self._images("test", self.used("test", self._said["test"]["label"], 0))

    def reference_files(self, seed: int) -> Iterator[Images]:
        label = self._said["reference"]["label"]
        of_class: list[list[int]] = [[] for _ in self.classes]
        for i in self.used("reference", label, seed):
            of_class[label[i]].append(i)
        yield from (self._images("reference", rows) for rows in of_class)

    def _images(self, part: str, rows: list[int]) -> Images:
        said, names = self._said[part], name_of(part, rows)
        about: dict[str, tuple[int, ...]] = {
            name: (said["label"][i],) for name, i in zip(names, rows, strict=True)
        }
        digests = {name: said["digest"][i] for name, i in zip(names, rows, strict=True)}
        return Images(Path(), "", about, digests)


def name_of(part: str, rows: Sequence[int]) -> list[str]:
    """What people know images by that have only numbers."""
    return [f"{part} {i}" for i in rows]


class Outside(Indexed):
    """A dataset from outside: a function that is called as `function(part, **options)`, once with `test` and
    once with `reference`, and returns what has a length, `[i]` as an image and its class from 0, and
    `classes`, their names (docs/images.md)."""

    name: Reference = Field(description="`file.py:function` or `package.module:function`")
    options: Arguments = Field({}, description=ARGUMENTS)
    test: Test = None

    implementation: ClassVar = "detour.datasets.outside:Outside"

    @property
    def outside(self) -> str:
        return self.name


DATASETS = found(__name__, __path__, Dataset, "name")


def dataset(section: dict[str, Any]) -> Dataset:
    """The options of a section that was checked before; what is left out has its default."""
    return DATASETS.get(section["name"], Outside).model_construct(**section)
