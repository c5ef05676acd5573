"""Versions of images: what the earlier stages of a run left of them for a detector to read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import zarr

from detour import store
from detour.errors import InputError
from detour.store import ORIGINAL, named

# What a detector can read of a run.
STORES = (
    "distances", "activations", "neighbours", "squeezed", "preprocessed", "gaussians", "joint",
)  # fmt: skip

Stores = Mapping[str, str | Path]


# By identity, which makes it a key of caches.
@dataclass(frozen=True, eq=False)
class Run:
    """Where the earlier stages of a run left what a detector reads; the others are empty.

    Parameters
    ----------
    distances, activations, neighbours, squeezed, preprocessed
        Stores by set; `original` is the genuine one, all others but the controls are adversarial.
    gaussians
        Stores by layer.
    joint
        The store of the Gaussian of all layers side by side, by its name.
    controls
        Sets that are genuine images, changed by what is harmless.
    """

    distances: Stores = field(default_factory=dict)
    activations: Stores = field(default_factory=dict)
    neighbours: Stores = field(default_factory=dict)
    squeezed: Stores = field(default_factory=dict)
    preprocessed: Stores = field(default_factory=dict)
    gaussians: Stores = field(default_factory=dict)
    joint: Stores = field(default_factory=dict)
    controls: Collection[str] = ()

    @classmethod
    def of(cls, controls: Collection[str] = (), **stores: Sequence[str | Path]) -> Self:
        """A run from the stores alone, whose file names are the names of the sets or layers."""
        return cls(**{name: named(paths) for name, paths in stores.items()}, controls=controls)

    @property
    def sets(self) -> list[str]:
        every = self.distances, self.activations, self.neighbours, self.squeezed, self.preprocessed
        return list(next(filter(None, every), {}))

    @property
    def attacks(self) -> list[str]:
        return [name for name in self.sets if name != ORIGINAL and name not in self.controls]

    @property
    def paths(self) -> list[str | Path]:
        return [path for name in STORES for path in getattr(self, name).values()]


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
    sources : int64 [n]
    source : int64 [m]
    set : str [m]
    adversarial : bool [m]
    """

    def __init__(self, run: Run, sources: np.ndarray, sets: Collection[str] | None = None) -> None:
        self.run = run
        self.sets = [name for name in run.sets if sets is None or name in sets]
        self.sources = sources
        self.source = np.tile(sources, len(self.sets))
        self.set = np.repeat(self.sets, len(sources))
        self.adversarial = np.isin(self.set, run.attacks)

    @cached_property
    def distances(self) -> np.ndarray:
        """float32 [m, L, C]"""
        return self._rows("distances", "distances")

    def activations(self, layer: str) -> np.ndarray:
        """float32 [m, N_l]"""
        return self._rows("activations", layer)

    @cached_property
    def predicted(self) -> np.ndarray:
        """int64 [m]"""
        return self._rows("activations" if self.run.activations else "distances", "predicted")

    @cached_property
    def logits(self) -> np.ndarray:
        """float32 [m, C]"""
        return self._rows("activations", "logits")

    def squeezed(self, squeezer: str, by: int) -> np.ndarray:
        """Logits float32 [m, C] of the squeezed images, see `detour.squeezed.extract`."""
        return self._rows("squeezed", f"{squeezer}-{by}")

    def preprocessed(self, magnitude: float) -> np.ndarray:
        """Mahalanobis confidences float64 [m, L], see `detour.preprocessed.extract`."""
        at = store.read(self._stores("preprocessed")[self.sets[0]]).attrs["magnitudes"].index(magnitude)
        return self._rows("preprocessed", "confidence")[:, at]

    @property
    def layers(self) -> list[str]:
        """Of the activations, or else of the neighbours or distances, in the order of the data."""
        stores = self.run.activations or self.run.neighbours or self.run.distances
        return list(store.read((stores or self._stores("activations"))[self.sets[0]]).attrs["layers"])

    def neighbours(self, layer: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distance float32 and label int64 [m, k] of the k nearest reference images, nearest first."""
        distance, label = (self._rows("neighbours", f"{layer}/{array}") for array in ("distance", "label"))
        if distance.shape[1] < k:
            raise InputError(
                f"detectors: k: found {k}, allowed: at most {distance.shape[1]}, as were looked for"
            )
        return distance[:, :k], label[:, :k]

    def gaussian(self, layer: str) -> zarr.Group:
        """Mean, covariance and whitening, see `detour.gaussians.fit`."""
        return store.read(self._stores("gaussians")[layer])

    def _stores(self, stage: str) -> Stores:
        if not (stores := getattr(self.run, stage)):
            raise InputError(
                f"the detector asks for {stage}, which it does not read; add {stage!r} to its `reads`"
            )
        return stores

    def _rows(self, stage: str, array: str) -> np.ndarray:
        stores = self._stores(stage)
        return np.concatenate([store.read(stores[name])[array][:][self.sources] for name in self.sets])
