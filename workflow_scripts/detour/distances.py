"""Distances: of every image to the medoid of every class at every layer, the detector's L x C sequence."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from detour import store
from detour.compute import THREAD, Dask
from detour.store import Made


def distances(x: np.ndarray, medoids: np.ndarray) -> np.ndarray:
    """L2 distances to the medoids of one layer, in float64.

    Parameters
    ----------
    x : float32 [n, N_l]
    medoids : float32 [C, N_l]

    Returns
    -------
    float64 [n, C]
    """
    return cdist(x, medoids)


def measure(
    activations: str | Path,
    medoids: Sequence[str | Path],
    out: str | Path,
    *,
    dask: Dask = THREAD,
    made: Made,
) -> None:
    """Store the distances of a set: distances float32 [n, L, C], and its label and predicted int64 [n].

    Parameters
    ----------
    medoids
        Stores of the medoids, in the order of the layers.
    dask
        What works on blocks of rows at one layer.
    """
    recorded = store.read(activations)
    label, predicted = recorded["label"][:], recorded["predicted"][:]
    # Whole chunks, which are of equally many rows in all layers.
    step = recorded[store.read(medoids[0]).attrs["layer"]].chunks[0]
    blocks = [slice(start, start + step) for start in range(0, len(label), step)]
    tasks = [
        partial(_block, Path(activations).absolute(), Path(path).absolute(), rows)
        for rows in blocks
        for path in medoids
    ]

    def rows_of_all_layers() -> Iterator[dict[str, np.ndarray]]:
        found = dask.results(tasks, "blocks of rows at a layer")
        for rows in blocks:
            sequence = np.stack([next(found) for _ in medoids], axis=1)
            yield {"distances": sequence, "label": label[rows], "predicted": predicted[rows]}
        # To the last line of the log.
        next(found, None)

    with store.create(out, made, [activations, *medoids], layers=recorded.attrs["layers"]) as group:
        store.write(group, rows_of_all_layers())


def _block(activations: Path, medoids: Path, rows: slice) -> np.ndarray:
    """Distances of some rows at the layer of the medoids."""
    found = store.read(medoids)
    x = store.read(activations)[found.attrs["layer"]][rows]
    return distances(x, found["medoid"][:]).astype(np.float32)
