"""Neighbours: the 100 nearest of many reference images, for the baseline detector.

The reference is a tenth of ImageNet's 1.28 million, in stores of 2,048 floats a row as the workflow writes
them; each candidate reads it and searches, in a process of its own. The plain way loads all and asks
scikit-learn.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.neighbors import NearestNeighbors

from benchmarks import timing
from benchmarks.sections import Table
from detour import neighbours, store
from detour.store import Made

GOAL = "Memory that does not grow with the reference, and no slower than the plain way."

NOTES = [
    "The plain way pays for joining what it has read, in time and in twice the memory; block by block neither grows"
    " with the reference.",
]

IMAGENET = 1_280_000
PLAIN = "load all, scikit-learn"


def run(quick: bool) -> list[Table]:
    n, width, queries, k, rounds = (400, 16, 10, 5, 1) if quick else (128_000, 2048, 100, 100, 2)
    classes = 10
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        references = []
        for i, count in enumerate(np.full(8, n // 8)):
            references.append(Path(folder) / f"reference-{i}.zarr.zip")
            write(references[-1], rng, count, width, classes)
        images = Path(folder) / "original.zarr.zip"
        write(images, rng, queries, width, classes)
        arguments = (references, images, k)
        spent: dict[str, list[float]] = {PLAIN: [], "Detour": []}
        peak, shares = {}, {}
        for _ in range(rounds):
            for name, call in ((PLAIN, plain), ("Detour", detour)):
                seconds, peak[name], shares[name] = timing.alone(call, *arguments)
                spent[name].append(seconds)
    # Neighbours as far away as each other may come in either order.
    if np.abs(shares["Detour"] - shares[PLAIN]).max() > 1 / k + 1e-9:
        raise AssertionError("the two searches found different neighbours")
    found = {name: timing.compared(seconds, spent[PLAIN]) for name, seconds in spent.items()}
    return [
        Table(
            f"{queries} images among {n:,} x {width:,}, {n * width * 4 / 1e9:.1f} GB, k = {k}",
            [timing.row(name, f) | {"peak MB": peak[name]} for name, f in found.items()],
            note=f"By the number of rows, {IMAGENET:,} of them: " + "; ".join(
                f"{name} {f.seconds * IMAGENET / n / 60:.1f} minutes" for name, f in found.items()
            ) + f" (extrapolated), of {IMAGENET * width * 4 / 1e9:.1f} GB.",
        )
    ]  # fmt: skip


def write(path: Path, rng: np.random.Generator, n: int, width: int, classes: int) -> None:
    """A store of synthetic activations."""
    blocks = (
        {
            "x": rng.standard_gamma(1, (b, width), dtype=np.float32),
            "label": rng.integers(classes, size=b),
            "predicted": rng.integers(classes, size=b),
        }
        for b in np.diff([*range(0, n, 1_000), n])
    )
    with store.create(path, Made({}, "")) as group:
        store.write(group, blocks)


def detour(references: list[Path], images: Path, k: int) -> tuple[float, float, np.ndarray]:
    """Seconds, peak MB, and each image's share of neighbours of its predicted class."""
    begin = time.perf_counter()
    out = images.with_name("neighbours.zarr.zip")
    neighbours.find(images, references, out, layers=["x"], k=k, made=Made({}, ""))
    predicted = store.read(images)["predicted"][:]
    share = (store.read(out)["x/label"][:] == predicted[:, None]).mean(1)
    return time.perf_counter() - begin, timing.peak_mb(), share


def plain(references: list[Path], images: Path, k: int) -> tuple[float, float, np.ndarray]:
    """The same, from everything in memory."""
    begin = time.perf_counter()
    x = np.concatenate([store.read(path)["x"][:] for path in references])
    label = np.concatenate([store.read(path)["label"][:] for path in references])
    queries = store.read(images)
    nearest = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors(
        queries["x"][:], return_distance=False
    )  # fmt: skip
    share = (label[nearest] == queries["predicted"][:][:, None]).mean(1)
    return time.perf_counter() - begin, timing.peak_mb(), share
