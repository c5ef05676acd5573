"""Reruns: what it costs to find that there is nothing to do.

Snakemake asked again of finished runs (their artefacts are empty files that `--touch` says are done), beside an
interpreter that only imports Snakemake; and the check of images that have not changed, beside the bare listing and
status of every file.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import yaml

from benchmarks.demo import PARTS, ROOT
from benchmarks.sections import Table
from benchmarks.timing import side_by_side
from detour import folders
from detour.manifest import Manifest

GOAL = "Nothing to do: at most 2 s for the demo, 6 s for 2,500 jobs. Images: cheap at 1.28 million."

NOTES = [
    "Nearly all of it is Snakemake's own: importing it, and building and checking the graph, which goes with the"
    " inputs of all jobs; hence a detector is given only the stores that it reads. Collecting garbage more seldom took"
    " about a fifth off. The plugin for SLURM, which Snakemake imports wherever it is installed, imports pandas, about"
    " half a second; it was installed here. `make demo` does without it.",
    "Where `--touch` passes over a job, nothing is recorded of its params to be compared: 23 of the jobs of either run"
    " here, so a real run takes a little longer.",
]

ROUNDS = 3


def run(quick: bool) -> list[Table]:
    with tempfile.TemporaryDirectory() as place:
        return [nothing_to_do(Path(place), quick), images(Path(place), quick)]


def nothing_to_do(place: Path, quick: bool) -> Table:
    default = yaml.safe_load((ROOT / "config.yaml").read_text())
    lstm = default["detectors"][0]
    runs = {"the demo": default}
    if not quick:
        many = [lstm | {"name": f"lstm{i}", "epochs": i + 1} for i in range(245)]
        runs["many detectors"] = default | {"detectors": many, "protocols": ["known"]}
    jobs = {name: finished(place / name.replace(" ", "-"), config) for name, config in runs.items()}
    candidates = {"import of Snakemake": partial(python, place, "-c", "import snakemake.cli")}
    for name, count in jobs.items():
        folder = place / name.replace(" ", "-")
        candidates[f"{name}, {count} jobs"] = partial(python, folder, *SNAKEMAKE)
    timings = side_by_side(candidates, "import of Snakemake", 1 if quick else ROUNDS)
    rows = [{"started": name, "s": t.seconds, "ratio": t.ratio} for name, t in timings.items()]
    return Table("Nothing to do", rows)


SNAKEMAKE = ("-m", "snakemake", "--cores", "2")


def python(folder: Path, *command: str) -> str:
    """What it prints; standard error with it."""
    run = subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True, text=True)
    return run.stdout + run.stderr


def finished(folder: Path, config: dict) -> int:
    """Make a run look finished; gives the number of its jobs."""
    folder.mkdir()
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    table = python(folder, *SNAKEMAKE, "--summary")
    rows = csv.DictReader(table[table.index("output_file\t") :].splitlines(), delimiter="\t")
    # Snakemake's own lines may follow the table.
    for path in (folder / row["output_file"] for row in rows if row["plan"]):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A bundle is a folder.
        path.mkdir() if path.name == "bundle" else path.touch()
    python(folder, "-m", "snakemake", "--touch", "--cores", "3000")
    assert "Nothing to be done" in python(folder, *SNAKEMAKE)
    planned = python(folder, *SNAKEMAKE, "--dry-run", "--forceall")
    return int(re.search(r"^total +(\d+)", planned, re.MULTILINE).group(1))


def images(place: Path, quick: bool) -> Table:
    # A tenth of ImageNet: what is measured goes with the number of files.
    classes, each = (3, 20) if quick else (1000, 128)
    root = place / "images"
    for c in range(classes):
        folder = root / f"{c:04}"
        folder.mkdir(parents=True)
        for i in range(each):
            (folder / f"{i:05}.jpg").touch()
            os.utime(folder / f"{i:05}.jpg", (1e9, 1e9))
    manifest = Manifest(place / "manifests", print)

    def bare() -> None:
        for c in os.scandir(root):
            for file in os.scandir(c.path):
                file.stat()

    def check() -> None:
        for c in os.scandir(root):
            manifest.digest(c.path, folders.taken(c.path))

    timings = side_by_side({"listing and status of every file": bare, "check": check},
                           "listing and status of every file", 1 if quick else ROUNDS)  # fmt: skip
    rows = [{"of every image": name, "s": t.seconds, "ratio": t.ratio} for name, t in timings.items()]
    first = timings["check"].first
    note = f"The first time, which reads every file, here empty ones: {first:.0f} s."
    return Table(f"Images that have not changed: {classes * each:,}", rows, note=note)
