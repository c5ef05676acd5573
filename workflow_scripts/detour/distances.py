"""Distances: of every image to the medoid of every class at every layer, the detector's L x C sequence."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import dask.array as da
import numpy as np
from scipy.spatial.distance import cdist

from detour import store
from detour.logs import progress
from detour.store import Made


def distances(x: da.Array, medoids: np.ndarray) -> da.Array:
    """L2 distances to the medoids of one layer, in float64.

    Parameters
    ----------
    x : float32 [n, N_l], lazy, in blocks of rows
    medoids : float32 [C, N_l]

    Returns
    -------
    float64 [n, C], lazy
    """
    x = x.rechunk({1: -1})
    return x.map_blocks(cdist, medoids, dtype=np.float64, chunks=(x.chunks[0], len(medoids)))


def measure(
    activations: str | Path,
    medoids: Sequence[str | Path],
    out: str | Path,
    *,
    threads: int,
    made: Made,
) -> None:
    """Store the distances of a set: distances float32 [n, L, C], and its label and predicted int64 [n].

    Parameters
    ----------
    medoids
        Stores of the medoids, in the order of the layers.
    threads
        Blocks that Dask works on at once.
    """
    recorded = store.read(activations)
    sequence = []
    for path in medoids:
        found = store.read(path)
        sequence.append(distances(da.from_zarr(recorded[found.attrs["layer"]]), found["medoid"][:]))
    lazy = da.stack(sequence, axis=1).astype(np.float32)
    label, predicted = recorded["label"][:], recorded["predicted"][:]

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        start = 0
        for i in progress(range(lazy.numblocks[0]), lazy.numblocks[0], "blocks of rows"):
            block = lazy.blocks[i].compute(scheduler="threads", num_workers=threads)
            rows = slice(start, start := start + len(block))
            yield {"distances": block, "label": label[rows], "predicted": predicted[rows]}

    with store.create(out, made, [activations, *medoids], layers=recorded.attrs["layers"]) as group:
        store.write(group, blocks())
