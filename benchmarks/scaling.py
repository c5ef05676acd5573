"""Scales of the distances: what every detector that learns from them reaches with each.

    python -m benchmarks.scaling --out FILE RUN [RUN ...]

trains detectors by the library's own classes on the distances of finished runs (folders `results/{run}`), with every
attack known and with one left out of training and alone in the test, and prints a table. Seed i learns and is tested on fold i;
scales see the same images, so that their differences are paired. Each result is a line of FILE, and is kept.
"""

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from detour import areas
from detour.detectors import detector as made
from detour.detectors.versions import Run, Versions
from detour.folds import sources
from detour.options.detectors import detector
from detour.store import ORIGINAL

# The paper's training; the second network's is that of presets/evaluation.yaml.
PAPER_S = {"hidden": 100, "epochs": 100, "batch_size": 100, "lr": 1e-3}
TWICE = PAPER_S | {"bidirectional": True, "hidden": 50, "epochs": 50, "lr": 3e-3, "patience": 10}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("lstm", PAPER_S),
    "bilstm": ("lstm", TWICE),
    "mlp": ("mlp", PAPER_S),
    "logistic": ("logistic", {"c": [0.01, 0.1, 1, 10, 100]}),
}
SCALES = ("raw", "standard", "layer")


class Fit(NamedTuple):
    """One detector to be trained and tested on one fold."""

    run: str
    protocol: str
    detector: str
    scale: str
    seed: int


def fitted(fit: Fit, unseen: str, epochs: int | None) -> dict[str, Any]:
    """The fit, its AUC on the test images of its fold, and the best on the validation."""
    torch.set_num_threads(1)
    folder = Path(fit.run)
    run = Run.of(distances=sorted((folder / "distances/medoid-l2").glob("*.zarr.zip")))
    if unseen not in run.attacks:
        raise ValueError(f"--unseen: found {unseen!r}, allowed: {', '.join(run.attacks)} ({folder})")
    knows = [name for name in run.attacks if fit.protocol == "known" or name != unseen]
    tested = run.attacks if fit.protocol == "known" else [unseen]
    train, validation, test = (
        Versions(run, sources(folder / "folds.zarr.zip", fit.seed, role), [ORIGINAL, *sets])
        for role, sets in (("train", knows), ("validation", knows), ("test", tested))
    )
    method, options = METHODS[fit.detector]
    if epochs and "epochs" in options:
        options = options | {"epochs": epochs}
    model = made(detector({"name": "d", "method": method, "scale": fit.scale, **options}))
    history = model.fit(train, validation, seed=fit.seed)
    return fit._asdict() | {
        "auc": areas.auc(test.adversarial, model.score(test)),
        "validation_auc": max(row["validation_auc"] for row in history),
    }


def table(results: pd.DataFrame) -> str:
    """Mean AUC over the seeds, and of the paired difference from raw the mean and the deviation."""
    results["run"] = [Path(run).name for run in results["run"]]
    keys = ["run", "protocol", "detector"]
    wide = results.pivot(index=[*keys, "seed"], columns="scale", values="auc")
    by_row = wide.groupby(keys)
    scales = [scale for scale in SCALES if scale in wide]
    shown = by_row.mean()[scales].map("{:.3f}".format)
    for scale in scales[1:] if scales[0] == "raw" else []:
        difference = (wide[scale] - wide["raw"]).groupby(keys)
        mean, deviation = difference.mean(), difference.std()
        shown[f"{scale} - raw"] = [f"{m:+.3f} ± {d:.3f}" for m, d in zip(mean, deviation, strict=True)]
    return shown.reset_index().to_markdown(index=False, disable_numparse=True)


def main() -> None:
    """Train what is not in the file yet, and print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, with distances and folds")
    parser.add_argument("--out", type=Path, required=True, help="file of results, a line of JSON each")
    parser.add_argument("--detectors", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--scales", nargs="+", choices=SCALES, default=list(SCALES))
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds and folds (%(default)s)")
    parser.add_argument("--unseen", default="iterative_target", help="the attack left out (%(default)s)")
    parser.add_argument("--epochs", type=int, help="in place of the detectors' own")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each (%(default)s)")
    asked = parser.parse_args()
    asked.out.touch()
    results = [json.loads(line) for line in asked.out.read_text().splitlines()]
    kept = {tuple(row[name] for name in Fit._fields) for row in results}
    asking = product(
        map(str, asked.runs), ("known", "unknown"), asked.detectors, asked.scales, range(asked.seeds)
    )
    todo = [Fit(*fit) for fit in asking if fit not in kept]
    with (
        ProcessPoolExecutor(asked.jobs, multiprocessing.get_context("spawn")) as pool,
        asked.out.open("a") as out,
    ):
        running = [pool.submit(fitted, fit, asked.unseen, asked.epochs) for fit in todo]
        for i, future in enumerate(as_completed(running), 1):
            results.append(row := future.result())
            out.write(json.dumps(row) + "\n")
            out.flush()
            print(f"{i} of {len(todo)}: {row}", flush=True)
    print(f"\n{table(pd.DataFrame(results))}")


if __name__ == "__main__":
    main()
