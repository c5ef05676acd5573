"""Medoids: classes of 1,300 members at the widths of InceptionV3's layers, and one whole layer of ImageNet.

Synthetic activations, gamma-distributed about a centre of their class, as averages after ReLU are. One thread
each, as in the workflow, whose jobs run classes side by side. The bare product is float32 `x @ z.T` with z a
copy of x, so that all of it is computed; numpy's `x @ x.T` sees that both sides are one array and computes
half. All candidates are asserted to find the same member.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics.pairwise import euclidean_distances
from threadpoolctl import threadpool_limits

from benchmarks import timing
from benchmarks.sections import Table
from detour import store
from detour.compute import Dask
from detour.medoids import find, medoid
from detour.store import Made

GOAL = (
    "At least 8 times as fast as `scipy.spatial.distance.pdist`, within 1.5 of the bare matrix products,"
    " exact, and under 4 GB for a whole layer."
)

NOTES = [
    "Detour computes half of the products, by symmetry, and spends on the bound of its rounding errors what that"
    " saves. At the narrow widths that is more than the products: the ratio is met over the 12 layers, not at each.",
    "The first measurement of a whole layer peaked at 5.4 GB: the row kept of each class was a view that held all"
    " of the class.",
    "scikit-learn-extra, whose last release (0.3.0) was compiled against NumPy 1, does not import with NumPy"
    " 2; `kmedoids` stands for both: FasterPAM on scikit-learn's distances, as in its own README.",
]

CLASSES = 1_000
MEMBERS = 1_300
# Of InceptionV3: width, and number of layers that have it.
WIDTHS = {192: 1, 256: 1, 288: 2, 768: 5, 1280: 1, 2048: 2}
THREADS = 2
BARE = "bare product"


def run(quick: bool) -> list[Table]:
    members, widths, rounds = (60, {192: 1, 256: 1}, 2) if quick else (MEMBERS, WIDTHS, 5)
    per_class: dict[str, dict[str, float]] = {}
    tables = []
    with threadpool_limits(1):
        for width in widths:
            x = next(classes(1, members, width))
            found = timing.side_by_side(
                {name: partial(call, x) for name, call in candidates().items()}, BARE, rounds
            )
            different = {str(f.output) for f in found.values() if f.output is not None}
            if len(different) != 1:
                raise AssertionError(f"width {width}: found members {different}, expected one")
            per_class[str(width)] = {name: f.seconds for name, f in found.items()}
            slow = found["pdist"].seconds
            tables.append(Table(
                f"One class of {members:,} x {width:,}",
                [
                    timing.row(name, f) | {"times as fast as pdist": slow / f.seconds}
                    for name, f in found.items()
                ],
            ))  # fmt: skip
    total = {
        name: sum(per_class[str(width)][name] * layers for width, layers in widths.items())
        for name in candidates()
    }
    tables.append(Table(
        f"Extrapolated: {CLASSES:,} classes x {sum(widths.values())} layers on {THREADS} threads",
        [
            {
                "candidate": name,
                "minutes": seconds * CLASSES / THREADS / 60,
                "ratio": seconds / total[BARE],
                "times as fast as pdist": total["pdist"] / seconds,
            }
            for name, seconds in total.items()
        ],
        note="" if find_spec("kmedoids") else "kmedoids: not installed.",
    ))  # fmt: skip
    return [*tables, whole_layer(10, 60, 32) if quick else whole_layer(CLASSES, MEMBERS, 768)]


def candidates() -> dict[str, Callable[[np.ndarray], int | None]]:
    """Functions of a class float32 [n, N] that return the index of its medoid, or None where they do not."""
    peers = {"kmedoids": by_kmedoids} if find_spec("kmedoids") else {}
    return {
        BARE: product,
        "NumPy's half product": half_product,
        "Detour": lambda x: medoid(x).index,
        "pdist": lambda x: int(squareform(pdist(x)).sum(1).argmin()),
        **peers,
    }


def product(x: np.ndarray) -> None:
    x @ x.copy().T


def half_product(x: np.ndarray) -> None:
    x @ x.T


def by_kmedoids(x: np.ndarray) -> int:
    from kmedoids import fasterpam

    return int(fasterpam(euclidean_distances(x), 1, random_state=0, n_cpu=1).medoids[0])


def classes(count: int, members: int, width: int) -> Iterator[np.ndarray]:
    """Classes float32 [members, width], drawn quickly: noise in a new order about a new centre."""
    rng = np.random.default_rng(0)
    noise = rng.standard_gamma(4, (members, width), dtype=np.float32) / 4
    for _ in range(count):
        centre = rng.standard_gamma(1, width, dtype=np.float32)
        yield noise[rng.permutation(members)] * centre


def whole_layer(count: int, members: int, width: int) -> Table:
    """One layer through the workflow's own function, stores and all, in a process of its own."""
    shards = 10
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i:02}.zarr.zip" for i in range(shards)]
        made, drawn = Made({}, ""), classes(count, members, width)
        for path, labels in zip(paths, np.array_split(np.arange(count), shards), strict=True):
            # The width of the logits is all that is read of them.
            blocks = (
                {
                    "x": next(drawn),
                    "label": np.full(members, label),
                    "logits": np.zeros((members, count), np.bool_),
                }
                for label in labels
            )
            with store.create(path, made) as group:
                store.write(group, blocks)
        size = sum(path.stat().st_size for path in paths)
        before, seconds, peak = timing.alone(_find, paths, Path(folder) / "found.zarr.zip")
    return Table(
        f"`detour.medoids.find`, {count:,} classes of {members:,} x {width:,}, {THREADS} threads",
        [{
            "stores GB": size / 1e9, "seconds": seconds, "classes/s": count / seconds,
            "peak MB": peak, "of it the libraries": before,
        }],
    )  # fmt: skip


def _find(paths: list[Path], out: Path) -> tuple[float, float, float]:
    """Peak MB before, seconds, peak MB."""
    before, begin = timing.peak_mb(), time.perf_counter()
    find(paths, out, layer="x", dask=Dask(THREADS), made=Made({}, ""))
    return before, time.perf_counter() - begin, timing.peak_mb()
