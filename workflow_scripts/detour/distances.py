"""Distances: of every image to every class's representative at every layer, the detector's L x C sequence."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from detour import store
from detour.compute import THREAD, Dask
from detour.errors import InputError
from detour.store import Made

# What represents a class: an array of its stage's stores.
REPRESENTATIVES = {"medoid": "medoid", "centroid": "mean"}


def distances(x: np.ndarray, representatives: np.ndarray, metric: str = "l2") -> np.ndarray:
    """Distances to the representatives of one layer, in float64.

    Parameters
    ----------
    x : float32 [n, N_l]
    representatives : float [C, N_l]
    metric
        `l2`, or `cosine`: 1 - the cosine of the angle; with a zero vector the cosine counts as 0.

    Returns
    -------
    float64 [n, C]
    """
    if metric == "l2":
        return cdist(x, representatives)
    cosine = cdist(x, representatives, "cosine")
    cosine[~x.any(1)] = 1
    cosine[:, ~representatives.any(1)] = 1
    return cosine


def measure(
    activations: str | Path,
    representatives: Sequence[str | Path],
    out: str | Path,
    *,
    representative: str = "medoid",
    metric: str = "l2",
    dask: Dask = THREAD,
    made: Made,
) -> None:
    """Store the distances of a set: distances float32 [n, L, C], and its label and predicted int64 [n].

    Parameters
    ----------
    representatives
        Stores of the medoids or the Gaussians, in the order of the layers.
    representative
        `medoid`, the paper's, or `centroid`, the mean of the class.
    metric
        See `distances`.
    dask
        What works on blocks of rows at one layer.
    """
    recorded = store.read(activations)
    label, predicted = recorded["label"][:], recorded["predicted"][:]
    # Whole chunks; they have the same number of rows in all layers.
    step = recorded[store.read(representatives[0]).attrs["layer"]].chunks[0]
    blocks = [slice(start, start + step) for start in range(0, len(label), step)]
    tasks = [
        partial(_block, Path(activations).absolute(), Path(path).absolute(), rows, representative, metric)
        for rows in blocks
        for path in representatives
    ]

    def rows_of_all_layers() -> Iterator[dict[str, np.ndarray]]:
        found = dask.results(tasks, "blocks of rows at a layer")
        for rows in blocks:
            sequence = np.stack([next(found) for _ in representatives], axis=1)
            yield {"distances": sequence, "label": label[rows], "predicted": predicted[rows]}
        # Exhaust the iterator, so that the last progress line is logged.
        next(found, None)

    with store.create(out, made, [activations, *representatives], layers=recorded.attrs["layers"]) as group:
        store.write(group, rows_of_all_layers())


def _block(
    activations: Path, representatives: Path, rows: slice, representative: str, metric: str
) -> np.ndarray:
    """Distances of some rows at the layer of the representatives."""
    found = store.read(representatives)
    x = store.read(activations)[found.attrs["layer"]][rows]
    with np.errstate(over="ignore"):
        measured = distances(x, found[REPRESENTATIVES[representative]][:], metric).astype(np.float32)
    if not np.isfinite(measured).all():
        source, c = np.argwhere(~np.isfinite(measured))[0]
        raise InputError(
            f"{activations}: the distance of source {rows.start + source} to class {c} at layer"
            f" {found.attrs['layer']} is {measured[source, c]}, expected a finite number; is the classifier"
            " broken? Check its weights"
        )
    return measured
