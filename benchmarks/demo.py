"""The demo: where the time of the default run goes, and Snakemake's own share of it.

The default configuration in a folder of its own, with two cores. Seconds of a stage are those that Snakemake
measures for its jobs, which include starting Python and importing libraries; what is left of the wall clock times
the cores is Snakemake's own work and cores that had no job.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.sections import Table

GOAL = "Under 5 minutes on two cores; nothing to do the second time: see reruns."

NOTES = [
    "Much of it is starting Python and importing torch, torchvision and scikit-learn, some seconds for each of 56"
    " jobs: jobs are separate so that a cluster can run them and a change reruns no more than it must.",
]

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "rules", "workflow_scripts", "schemas", "config.yaml", "profiles", "report", "envs")
CORES = 2
SHOWN = ["detector", "protocol", "measure", "cell", "value", "low", "high"]


def run(quick: bool) -> list[Table]:
    if quick:
        return [Table("The default run", [{"stage": "not run: it is as small as it can be"}])]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in PARTS:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, folder / name)
        wall, again = (seconds(folder, "-m", "snakemake", "--cores", str(CORES)) for _ in range(2))
        results = folder / "results" / yaml.safe_load((folder / "config.yaml").read_text())["run"]
        jobs = pd.concat(
            pd.read_csv(path, sep="\t").assign(stage=path.relative_to(results / "benchmarks").parts[0])
            for path in (results / "benchmarks").rglob("*.tsv")
        )
        summary = pd.read_csv(results / "summary.csv").query("population == 'all'")[SHOWN]
    # Files of a stage are in its folder, and single ones are named for it.
    jobs["stage"] = jobs["stage"].str.removesuffix(".tsv")
    stages = jobs.groupby("stage", sort=False).agg(jobs=("s", "size"), s=("s", "sum"), mb=("max_rss", "max"))
    busy = stages["s"].sum()
    rows = [
        {"stage": row.Index, "jobs": str(row.jobs), "seconds of its jobs": row.s, "share": row.s / busy, "peak MB": row.mb}
        for row in stages.sort_values("s", ascending=False).itertuples()
    ]  # fmt: skip
    return [
        Table(
            f"The default run: {wall:.0f} s, {busy:.0f} s of jobs on {CORES} cores",
            rows,
            note=f"{1 - busy / wall / CORES:.0%} of {CORES} x {wall:.0f} s is Snakemake's own and cores without a"
            f" job. The second run, with nothing to do: {again:.1f} s.",
        ),
        Table("What it found", summary.to_dict("records")),
    ]


def seconds(folder: Path, *command: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begin
