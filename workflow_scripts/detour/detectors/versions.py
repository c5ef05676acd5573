"""Versions of images: what the earlier stages of a run left of them for a detector to read."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import numpy as np
from sklearn.neighbors import NearestNeighbors

from detour import store
from detour.compute import THREAD, Dask
from detour.store import ORIGINAL, named

# Reference activations that are in memory at once: 128 MB in float32.
ENTRIES = 2**25


@dataclass(frozen=True)
class Run:
    """Where the earlier stages of a run left what a detector reads; the others are empty.

    Parameters
    ----------
    distances, activations
        Stores by set; `original` is the genuine one, all others are adversarial.
    references
        Stores of the reference activations, in the order of their classes.
    dask
        What searches the reference.
    """

    distances: Mapping[str, str | Path]
    activations: Mapping[str, str | Path]
    references: Sequence[str | Path]
    dask: Dask = THREAD

    @classmethod
    def of(
        cls,
        distances: Sequence[str | Path],
        activations: Sequence[str | Path],
        references: Sequence[str | Path],
        dask: Dask,
    ) -> Self:
        """A run from the stores alone, whose file names are the names of the sets."""
        return cls(named(distances), named(activations), references, dask)

    @property
    def sets(self) -> list[str]:
        return list(self.distances or self.activations)

    @property
    def attacks(self) -> list[str]:
        return [name for name in self.sets if name != ORIGINAL]

    @property
    def paths(self) -> list[str | Path]:
        return [*self.distances.values(), *self.activations.values(), *self.references]


class Versions:
    """Versions of some source images, with what the earlier stages say of them, read when asked for.

    Rows are grouped by set, in the order of the run.

    Parameters
    ----------
    sources : int64 [n]
    sets
        Whose versions; None: all of the run.

    Attributes
    ----------
    source : int64 [m]
    set : str [m]
    adversarial : bool [m]
    """

    def __init__(self, run: Run, sources: np.ndarray, sets: Collection[str] | None = None) -> None:
        self.run = run
        self.sets = [name for name in run.sets if sets is None or name in sets]
        self._sources = sources
        self.source = np.tile(sources, len(self.sets))
        self.set = np.repeat(self.sets, len(sources))
        self.adversarial = self.set != ORIGINAL

    @cached_property
    def distances(self) -> np.ndarray:
        """float32 [m, L, C]"""
        return self._rows(self.run.distances, "distances")

    def activations(self, layer: str) -> np.ndarray:
        """float32 [m, N_l]"""
        return self._rows(self.run.activations, layer)

    @cached_property
    def predicted(self) -> np.ndarray:
        """int64 [m]"""
        return self._rows(self.run.activations, "predicted")

    def nearest(self, layer: str, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Distance and label [m, k] of the k nearest, or all, of each block of the reference images."""
        activations = [Path(self.run.activations[name]).absolute() for name in self.sets]
        tasks = []
        for path in self.run.references:
            # Whole chunks, so that none is read twice.
            x = store.read(path)[layer]
            chunk, width = x.chunks
            step = chunk * max(1, ENTRIES // (chunk * width))
            for start in range(0, x.shape[0], step):
                block = Path(path).absolute(), slice(start, start + step)
                tasks.append(partial(_nearest, activations, self._sources, *block, layer, k))
        return self.run.dask.results(tasks, f"{layer}: blocks of the reference")

    def _rows(self, stores: Mapping[str, str | Path], array: str) -> np.ndarray:
        return _rows((stores[name] for name in self.sets), array, self._sources)


def _rows(stores: Iterable[str | Path], name: str, sources: np.ndarray) -> np.ndarray:
    """Of each store, the rows of those sources."""
    return np.concatenate([store.read(path)[name][:][sources] for path in stores])


def _nearest(
    activations: list[Path], sources: np.ndarray, reference: Path, rows: slice, layer: str, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest among some rows of one shard, which are read here: a worker has nothing sent to it."""
    shard = store.read(reference)
    label = shard["label"][rows]
    search = NearestNeighbors(n_neighbors=min(k, len(label)), algorithm="brute").fit(shard[layer][rows])
    distance, found = search.kneighbors(_rows(activations, layer, sources))
    return distance, label[found]
