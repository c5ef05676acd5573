"""Medoids: of each class at each layer, the member with the least sum of distances to all members."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from detour import store
from detour.compute import THREAD, Dask
from detour.errors import InputError, of
from detour.store import Made

# Entries of a block of the n x n distances, which bounds the memory of large classes: 64 MB in float32.
ENTRIES = 2**24

# Entries that are worked on at once, so that they stay in a core's cache: 1 MB in float32.
CACHED = 2**18


@dataclass(frozen=True)
class Medoid:
    """The medoid of one class.

    Attributes
    ----------
    index : int
        Its place among the members.
    cost : float
        Sum of its L2 distances to all members.
    """

    index: int
    cost: float


def medoid(x: np.ndarray) -> Medoid:
    """The member with the least sum of L2 distances to all members (Caldelli et al. 2019, eq. 1).

    The same as `cdist(x, x).sum(1).argmin()` in float64, on every input: ties go to the lowest index.

    Parameters
    ----------
    x : float32 [n, N]
        Members of the class, n >= 1.

    Notes
    -----
    One matrix product in float32 gives every cost within a bound; only members whose cost may be the least
    are compared in float64.

    Raises
    ------
    ValueError
        If there is no member, or a value is not finite.
    """
    if len(x) == 0:
        raise InputError("a class has no members, expected at least one reference image of each")
    if not np.isfinite(x).all():
        raise InputError("activations have values that are not finite; is the classifier broken?")
    members = candidates(x)
    exact = x.astype(np.float64)
    blocks = _slices(len(members), max(1, ENTRIES // len(x)))
    costs = np.concatenate([cdist(exact[members[block]], exact).sum(1) for block in blocks])
    best = int(costs.argmin())
    return Medoid(int(members[best]), float(costs[best]))


def candidates(x: np.ndarray) -> np.ndarray:
    """Members whose cost may be the least, ascending.

    Notes
    -----
    With u the unit roundoff of float32, y the centred rows and r their norms, the product gives
    s = r_i^2 + r_j^2 - 2 y_i.y_j within e_i = g (r_i + max r)^2 + a, where g bounds the rounding of a sum of
    N products in any order (Higham 2002, section 3.1) and of the few operations after it, and a what
    underflows. With d = sqrt(max(s, e_i)), a distance differs from d by at most e_i / d: if s >= e_i, because
    the difference of two roots is that of their squares over their sum; otherwise because the distance is at
    most sqrt(2 e_i). Centring, which rounds each value once, adds u (r_i + r_j).
    """
    n, N = x.shape
    u, tiny = float(np.finfo(np.float32).eps) / 2, float(np.finfo(np.float32).tiny)
    g = (N + 8) * u / (1 - (N + 8) * u)
    cost, inverse = np.empty(n), np.empty(n)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        y = x - x.mean(0, dtype=np.float64).astype(np.float32)
        norms = np.sqrt(np.einsum("ij,ij->i", y, y, dtype=np.float64))
        e = 1.01 * g * (norms + norms.max()) ** 2 + 4 * N * tiny
        # Halves of the squares, which saves doubling every product.
        least = (e[:, None] / 2).astype(np.float32)
        half = norms.astype(np.float32) ** 2 / 2
        for block in _slices(n, max(1, ENTRIES // n)):
            # For all rows at once, NumPy computes one half and mirrors it.
            products = y[block] @ y.T
            for part in _slices(len(products), max(1, CACHED // n)):
                d, rows = products[part], slice(block.start + part.start, block.start + part.stop)
                np.subtract(half, d, out=d)
                d += half[rows, None]
                np.maximum(d, least[rows], out=d)
                np.sqrt(d, out=d)
                cost[rows] = d.sum(1, dtype=np.float64)
                np.reciprocal(d, out=d)
                inverse[rows] = d.sum(1)
        cost *= np.sqrt(2)
        # The last term is the rounding of the centring, of the roots and of the sums.
        bound = 1.01 * e * inverse / np.sqrt(2) + 4 * u * (n * norms + norms.sum() + cost)
        # Where a square overflowed, comparisons with NaN are False, and the member is kept.
        beaten = cost - bound > np.min(cost + bound)
    return np.flatnonzero(~beaten)


def _slices(n: int, step: int) -> Iterator[slice]:
    """Slices of at most `step` that cover `range(n)`."""
    return (slice(start, min(n, start + step)) for start in range(0, n, step))


def find(
    references: Sequence[str | Path], out: str | Path, *, layer: str, dask: Dask = THREAD, made: Made
) -> None:
    """Store the medoids of one layer: medoid float32 [C, N_l], index, size int64 [C], cost float64 [C].

    `index` counts all reference images, in the order of the shards.

    Parameters
    ----------
    references
        Stores of the reference activations, of whole classes each, in the order of their classes.
    dask
        What works on the classes.

    Raises
    ------
    ValueError
        If a class has no reference image.
    """
    size = class_sizes(references)
    first = np.concatenate([[0], size.cumsum()[:-1]])
    # One task for the classes that begin in the same chunk, so that it is read about once.
    tasks = [
        partial(_with_activations, Path(path).absolute(), layer, rows)
        for path, shard in ((path, store.read(path)) for path in references)
        for rows in classes_by_rows(shard["label"][:], shard[layer].chunks[0])
    ]
    # Open the output first: a later start of the same job then takes over.
    with store.create(out, made, references, layer=layer) as group:
        found = [medoid for part in dask.results(tasks, f"{layer}: groups of classes") for medoid in part]
        arrays = {
            "medoid": np.stack([activation for _, activation in found]),
            "index": first + [m.index for m, _ in found],
            "cost": np.array([m.cost for m, _ in found]),
            "size": size,
        }
        store.write(group, [arrays])


def class_sizes(references: Sequence[str | Path]) -> np.ndarray:
    """Number of reference images of each class, int64 [C].

    Raises
    ------
    ValueError
        If a class has none.
    """
    shards = [store.read(path) for path in references]
    label = np.concatenate([shard["label"][:] for shard in shards])
    size = np.bincount(label, minlength=shards[0]["logits"].shape[1])
    if not size.all():
        raise InputError(
            f"classes {np.flatnonzero(size == 0).tolist()} have no reference images, expected at least one"
            " each; add images or remove the classes' folders"
        )
    return size


def classes_by_rows(label: np.ndarray, step: int) -> list[list[slice]]:
    """Rows of every class of a shard, grouped by the block of `step` rows in which they begin."""
    starts = np.flatnonzero(np.diff(label, prepend=-1))
    rows = [slice(*pair) for pair in pairwise([*starts.tolist(), len(label)])]
    return [list(group) for _, group in groupby(rows, lambda row: row.start // step)]


def _with_activations(path: Path, layer: str, rows: list[slice]) -> list[tuple[Medoid, np.ndarray]]:
    """Medoids of consecutive classes of a shard, with their activations."""
    x = store.read(path)[layer][rows[0].start : rows[-1].stop]
    members = (x[row.start - rows[0].start : row.stop - rows[0].start] for row in rows)
    with of(f"{path}, layer {layer}"):
        return [_with_activation(each) for each in members]


def _with_activation(x: np.ndarray) -> tuple[Medoid, np.ndarray]:
    found = medoid(x)
    # A view would keep all of the class in memory.
    return found, x[found.index].copy()
