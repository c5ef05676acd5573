"""Datasets: what every dataset says of itself before any job; each family of datasets has a module here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import Field

from detour.options.base import Count, Method
from detour.options.catalogue import found

# Keys that change no image.
HANDLING = {"shards", "workers", "duplicates"}

Shards = Annotated[
    Count,
    Field(
        description="extraction jobs that the reference images are cut into, by whole classes; where it is"
        " left out, at most one per class"
    ),
]


class Images(NamedTuple):
    """Image files of a folder.

    Attributes
    ----------
    folder
        Where they are.
    under
        What stands before their names where people read them, such as that of their class.
    about
        By name, their class and, if the dataset has one, the class to aim at, from 0.
    """

    folder: Path
    under: str
    about: dict[str, tuple[int, ...]]


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
        return self.model_dump(exclude=HANDLING | (self.of_reference if part == "test" else self.of_test))


DATASETS = found(__name__, __path__, Dataset, "name")
