"""Neighbours: the reference images that are nearest to every image at a layer, in L2."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from detour import store
from detour.compute import THREAD, Dask
from detour.errors import InputError, of
from detour.store import Made

# Reference activations that are in memory at once: 128 MB in float32.
ENTRIES = 2**25

# Entries that are worked on at once: 64 MB in float64.
PART = 2**23


def nearest(x: np.ndarray, reference: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest in L2, nearest first: the same as a sort of all distances in float64.

    Ties go to the lowest index.

    Parameters
    ----------
    x : float32 [n, N]
    reference : float32 [R, N]
        R >= k.

    Returns
    -------
    distance : float64 [n, k]
    index : int64 [n, k]

    Raises
    ------
    ValueError
        If a value is not finite.

    Notes
    -----
    One matrix product in float64 gives every squared distance within a bound (Higham 2002, section 3.1);
    only those that may be among the k nearest are computed from differences.
    """
    if not (np.isfinite(x).all() and np.isfinite(reference).all()):
        raise InputError("activations have values that are not finite; is the classifier broken?")
    y = reference.astype(np.float64)
    squares = np.einsum("ij,ij->i", y, y)
    u = (y.shape[1] + 8) * np.finfo(np.float64).eps
    step = max(1, PART // max(y.shape))
    found = [_nearest(x[start : start + step].astype(np.float64), y, squares, u, k)
             for start in range(0, len(x), step)]  # fmt: skip
    distance, index = (np.concatenate(part) for part in zip(*found, strict=True))
    return distance, index


def _nearest(
    x: np.ndarray, y: np.ndarray, squares: np.ndarray, u: float, k: int
) -> tuple[np.ndarray, np.ndarray]:
    n = len(x)
    # The square of x is left out: constant per row, it cannot change the ranking.
    d = x @ y.T
    d *= -2
    d += squares
    e = u * (np.sqrt(np.einsum("ij,ij->i", x, x)) + np.sqrt(squares.max())) ** 2
    limit = np.partition(d, k - 1, axis=1)[:, k - 1] + 2 * e
    row, column = np.nonzero(d <= limit[:, None])
    pairs = max(1, PART // x.shape[1])
    exact = np.concatenate([
        np.sqrt(np.square(x[row[at : at + pairs]] - y[column[at : at + pairs]]).sum(1))
        for at in range(0, len(row), pairs)
    ])  # fmt: skip
    # A stable sort, so that the lowest index comes first.
    order = np.lexsort((exact, row))
    first = np.searchsorted(row, np.arange(n))
    kept = order[first[:, None] + np.arange(k)]
    return exact[kept], column[kept]


def find(
    activations: str | Path,
    references: Sequence[str | Path],
    out: str | Path,
    *,
    layers: list[str],
    k: int,
    dask: Dask = THREAD,
    made: Made,
) -> None:
    """Store the neighbours of a set: for each layer a group with distance float32 and label int64 [n, k].

    Parameters
    ----------
    references
        Stores of the reference activations, in the order of their classes.
    layers, k
        Layers that are searched, and number of neighbours; attributes of the store.
    dask
        What searches blocks of the reference.

    Raises
    ------
    ValueError
        If there are fewer than k reference images, or a distance is beyond float32.
    """
    count = sum(store.read(path)["label"].shape[0] for path in references)
    if count < k:
        raise InputError(f"detectors: k: found {k}, allowed: at most the {count} reference images")
    where = Path(activations).absolute()
    tasks = {layer: [partial(_block, where, *block, layer, k) for block in _blocks(references, layer)]
             for layer in layers}  # fmt: skip
    with store.create(out, made, [activations, *references], layers=layers, k=k) as group:
        found = dask.results([task for each in tasks.values() for task in each], "blocks of the reference")
        for layer, each in tasks.items():
            with of(activations):
                distance, label = joined((next(found) for _ in each), k, layer)
            store.write(group.create_group(layer), [{"distance": distance, "label": label}])
        # Exhaust the iterator, so that the last progress line is logged.
        next(found, None)


def _blocks(references: Sequence[str | Path], layer: str) -> Iterator[tuple[Path, slice]]:
    """Blocks of rows of the shards, of whole chunks, so that none is read twice."""
    for path in references:
        x = store.read(path)[layer]
        chunk, width = x.chunks
        step = chunk * max(1, ENTRIES // (chunk * width))
        for start in range(0, x.shape[0], step):
            yield Path(path).absolute(), slice(start, start + step)


def _block(
    activations: Path, reference: Path, rows: slice, layer: str, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distance and label of the k nearest rows of a block, or of all; the worker itself reads the stores."""
    shard = store.read(reference)
    with of(f"{activations} and {reference}, layer {layer}"):
        return among(store.read(activations)[layer][:], shard[layer][rows], shard["label"][rows], k)


def among(x: np.ndarray, reference: np.ndarray, label: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distance float64 and label int64 [n, k] of the k nearest of a block of the reference, or of all."""
    distance, index = nearest(x, reference, min(k, len(label)))
    return distance, label[index]


def joined(
    blocks: Iterator[tuple[np.ndarray, np.ndarray]], k: int, layer: str
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of all blocks of a layer, from the nearest of each block in their order.

    Returns
    -------
    distance : float32 [n, k]
    label : int64 [n, k]

    Raises
    ------
    ValueError
        If a distance is beyond float32.
    """
    distance, label = next(blocks)
    for its_distance, its_label in blocks:
        distance, label = np.hstack([distance, its_distance]), np.hstack([label, its_label])
        kept = distance.argsort(axis=1, kind="stable")[:, :k]
        distance = np.take_along_axis(distance, kept, axis=1)
        label = np.take_along_axis(label, kept, axis=1)
    with np.errstate(over="ignore"):
        rounded = distance.astype(np.float32)
    if not np.isfinite(rounded).all():
        source = np.argwhere(~np.isfinite(rounded))[0][0]
        raise InputError(
            f"a distance of source {source} at layer {layer} is beyond float32; is the classifier broken?"
            " Check its weights"
        )
    return rounded, label
