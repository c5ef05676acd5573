"""Checks: what it costs that everything that is read is what was written.

At the sizes of `presets/imagenet.yaml`: each artefact read as the library reads it, with its seal, its name, every CRC
and what it was made from, beside the bare library. Zarr's zip compares CRCs in both; torch compares none.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import zarr
from zarr.storage import ZipStore

from benchmarks.sections import Table
from benchmarks.timing import side_by_side
from detour import states, store, tables
from detour.store import Made

GOAL = "Under 5 % of each stage at ImageNet's size."

NOTES = [
    "The last column is a bound: the seconds that the checks add, of the seconds of the shortest job that reads the"
    " artefact, which `docs/scale.md` has: distances of 1,000 images, 5 s; a layer of medoids of 1.28 million images,"
    " 35 s; extraction of a set on a CPU, 137 s. Scores are read by a summary, which takes 3 s in the demo, where it has"
    " a tenth of the rows.",
]

ROUNDS = 5
MADE = Made({}, "")


def run(quick: bool) -> list[Table]:
    images, layers, shards, parameters, rows = (
        (50, [8] * 2, 3, 1000, 100) if quick else (1000, [192, *[288] * 3, *[768] * 5, 1280, 2048, 2048], 100, 27_000_000, 120_000)
    )  # fmt: skip
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "results", "run")
        shard = [folder / f"activations/reference/{i}.zarr.zip" for i in range(shards)]
        for path in shard:
            written(path, {"layer": rng.random((64, 8), dtype=np.float32)})
        activations, classifier, scores = (
            folder / name for name in ("activations/original.zarr.zip", "classifier.pt", "scores.zarr.zip")
        )
        written(
            activations,
            {f"layer {i}": rng.random((images, width), dtype=np.float32) for i, width in enumerate(layers)},
        )
        folder.mkdir(exist_ok=True)
        states.save(classifier, classifier, {"weight": torch.rand(parameters)}, MADE)
        names = np.array(["original", "fgsm", "noise"], dtype=object)
        table = pd.DataFrame(
            {"set": names[rng.integers(3, size=rows)], "source": rng.integers(1000, size=rows)}
        )
        tables.write(scores, table.assign(score=rng.random(rows)), MADE, csv=True)
        # What is read, bare and checked, and the seconds of the shortest job that reads it.
        pairs = {
            "activations of a set": (partial(bare, activations), partial(checked, activations), 5),
            "100 shards, opened": (partial(opened, shard), partial(checked_together, shard), 35),
            "classifier": (
                partial(torch.load, classifier, map_location="cpu", weights_only=True),
                partial(states.load, classifier),
                137,
            ),
            "scores, beside the CSV": (
                partial(pd.read_csv, folder / "scores.csv", dtype={"set": str}, keep_default_na=False),
                partial(tables.read, scores),
                3,
            ),
        }
        found = []
        for name, (plain, whole, job) in pairs.items():
            timings = side_by_side({"bare": plain, "checked": whole}, "bare", 1 if quick else ROUNDS)
            added = timings["checked"].seconds - timings["bare"].seconds
            found.append({
                "artefact": name, "bare, s": timings["bare"].seconds, "checked, s": timings["checked"].seconds,
                "ratio": timings["checked"].ratio, "of its shortest job": f"{max(0, added) / job:.2%}",
            })  # fmt: skip
    return [Table("Reading with every check", found)]


def written(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with store.create(path, MADE) as group:
        store.write(group, [arrays])


def arrays(group: zarr.Group) -> None:
    for _, array in group.arrays():
        array[:]


def bare(path: Path) -> None:
    arrays(zarr.open_group(ZipStore(path, mode="r"), mode="r"))


def checked(path: Path) -> None:
    store.lineage([path])
    arrays(store.read(path))


def opened(paths: list[Path]) -> None:
    for path in paths:
        zarr.open_group(ZipStore(path, mode="r"), mode="r")


def checked_together(paths: list[Path]) -> None:
    store.lineage(paths)
    for path in paths:
        store.read(path)
