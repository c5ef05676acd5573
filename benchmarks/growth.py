"""Growth: seconds and memory of each stage as its work doubles, twice.

Each number in a process of its own, on two threads at most; seconds are of the stage's function alone, without
starting Python and importing libraries, which are in the peak memory. Synthetic activations of 512 floats a
layer, untrained ResNet-18 at 32 x 32.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks import timing
from benchmarks.sections import Table
from detour import activations, attacks, classifiers, datasets, distances, images, medoids, neighbours, store
from detour.compute import Dask
from detour.detectors.sequences import LSTM
from detour.options.attacks.gradients import Iterative
from detour.options.detectors import detector
from detour.store import Made

GOAL = "No stage grows faster than its work; memory that grows is said."

NOTES = [
    "One run of some seconds each: on a machine shared with others a time is off by a factor of two now and then, as"
    " where it grows less or more than its neighbours. Memory repeats.",
    "A class's medoid compares all its members with all: it grows with their square, in time and, up to 4,096"
    " members, in memory; beyond, in blocks of 64 MB.",
    "The LSTM's distances are in memory, 48 kB an image at ImageNet's 12 x 1,000.",
]

MADE = Made({}, "")
WIDTH, CLASSES, LAYERS = 512, 10, ["maxpool", "layer2.1", "layer4.1"]


def run(quick: bool) -> list[Table]:
    rows = []
    for stage, (unit, size, prepare) in STAGES.items():
        for n in (size // 100,) if quick else (size, 2 * size, 4 * size):
            seconds, peak = timing.alone(_measured, prepare, max(n, 2 * CLASSES))
            first = next((row for row in rows if row["stage"] == stage), None)
            rows.append({
                "stage": stage, "work": f"{n:,} {unit}", "seconds": seconds, "peak MB": peak,
                "times the time": seconds / first["seconds"] if first else 1.0,
                "times the memory": peak / first["peak MB"] if first else 1.0,
            })  # fmt: skip
    return [Table("Work doubled, and doubled again", rows)]


def _measured(prepare: Callable[[Path, int], Callable[[], object]], n: int) -> tuple[float, float]:
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        call = prepare(Path(folder), n)
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin, timing.peak_mb()


def written(path: Path, n: int, **arrays: Callable[[int], np.ndarray]) -> Path:
    """A store of `n` rows, written a thousand at a time."""

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for b in np.diff([*range(0, n, 1000), n]):
            yield {name: draw(b) for name, draw in arrays.items()}

    with store.create(path, MADE, classes=[str(c) for c in range(CLASSES)]) as group:
        store.write(group, blocks())
    return path


RNG = np.random.default_rng(0)


def labels(b: int) -> np.ndarray:
    return RNG.integers(CLASSES, size=b)


LABELS = dict.fromkeys(("label", "target", "source", "key", "copy_of", "predicted"), labels)


def gamma(*shape: int) -> Callable[[int], np.ndarray]:
    return lambda b: RNG.standard_gamma(1, (b, *shape), dtype=np.float32)


def classifier(folder: Path) -> Path:
    path = folder / "classifier.pt"
    classifiers.prepare(
        path,
        model="resnet18",
        weights="untrained",
        mean=[0.5] * 3,
        std=[0.25] * 3,
        classes=CLASSES,
        made=MADE,
    )
    return path


def test_images(folder: Path, n: int) -> Path:
    pixels = {"images": lambda b: RNG.integers(256, size=(b, 3, 32, 32), dtype=np.uint8)}
    return written(folder / "original.zarr.zip", n, **pixels, **LABELS)


def collected(folder: Path, n: int) -> Callable[[], object]:
    dataset = datasets.dataset({"name": "digits", "test": n, "size": 64})
    return partial(images.collect, dataset, folder / "o.zarr.zip", seed=0, workers=0, made=MADE)


def attacked(folder: Path, n: int) -> Callable[[], object]:
    attack = Iterative(name="a", method="iterative", eps=16, target="dataset", steps=5, step=4)
    return partial(
        attacks.perturb, classifier(folder), test_images(folder, n), folder / "a.zarr.zip",
        attack=attack, seed=0, batch_size=100, device="auto", made=MADE,
    )  # fmt: skip


def extracted(folder: Path, n: int) -> Callable[[], object]:
    return partial(
        activations.extract, classifier(folder), test_images(folder, n), folder / "x.zarr.zip",
        layers=LAYERS, batch_size=100, device="auto", made=MADE,
    )  # fmt: skip


def classes(count: int, n: int, folder: Path) -> Path:
    each = n // count
    path = folder / "reference.zarr.zip"
    with store.create(path, MADE) as group:
        store.write(
            group,
            ({"x": gamma(WIDTH)(each), "label": np.full(each, c), "logits": np.zeros((each, count))}
             for c in range(count)),
        )  # fmt: skip
    return path


def found(folder: Path, n: int, *, count: int | None = None) -> Callable[[], object]:
    reference = classes(count or max(1, n // 500), n, folder)
    return partial(medoids.find, [reference], folder / "m.zarr.zip", layer="x", dask=Dask(2), made=MADE)


def measured(folder: Path, n: int) -> Callable[[], object]:
    with store.create(folder / "m.zarr.zip", MADE, layer="x") as group:
        store.write(group, [{"medoid": gamma(WIDTH)(1000)}])
    recorded = folder / "x.zarr.zip"
    with store.create(recorded, MADE, layers=["x"]) as group:
        store.write(group, [{"x": gamma(WIDTH)(n), "label": np.zeros(n), "predicted": np.zeros(n)}])
    return partial(
        distances.measure, recorded, [folder / "m.zarr.zip"], folder / "d.zarr.zip", dask=Dask(2), made=MADE
    )


def trained(folder: Path, n: int) -> Callable[[], object]:
    train, validation = (
        SimpleNamespace(distances=gamma(12, 100)(m), adversarial=np.arange(m) % 2 == 0) for m in (n, 200)
    )
    lstm = LSTM(detector({"name": "lstm", "method": "lstm", "epochs": 5}))
    return partial(lstm.fit, train, validation, 0)


def searched(folder: Path, n: int) -> Callable[[], object]:
    reference = written(folder / "reference.zarr.zip", n, x=gamma(WIDTH), label=labels)
    queries = written(folder / "o.zarr.zip", 100, x=gamma(WIDTH), **LABELS)
    out = folder / "n.zarr.zip"
    return partial(neighbours.find, queries, [reference], out, layers=["x"], k=10, made=MADE)


# What grows, from how many, and what prepares the call.
STAGES: dict[str, tuple[str, int, Callable[[Path, int], Callable[[], object]]]] = {
    "images": ("images", 400, collected),
    "attacks": ("images", 200, attacked),
    "activations": ("images", 1_000, extracted),
    "medoids, more classes of 500": ("images", 10_000, found),
    "medoids, ten larger classes": ("images", 10_000, partial(found, count=10)),
    "distances to 1,000 medoids": ("images", 2_000, measured),
    "detectors, LSTM": ("images", 2_000, trained),
    "neighbours": ("reference images", 50_000, searched),
}
