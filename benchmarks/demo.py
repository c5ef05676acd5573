"""The demo: where the time of the default run goes, and Snakemake's own share of it.

The default configuration in a folder of its own, with two cores. Seconds of a rule are those that Snakemake
measures for its jobs, which include starting Python and importing libraries; what is left of the wall clock times
the cores is Snakemake's own work and cores that had no job. Beside them is what the imports of the rule's script
take alone, in an interpreter that does nothing else.
"""

import ast
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.sections import Table
from benchmarks.tables import record
from detour import tables
from detour.methods import module
from detour.options.detectors import METHODS

GOAL = "Under 3 minutes on two idle cores; nothing to do the second time: see reruns."

NOTES = [
    "Jobs are separate so that a cluster can run them and a change reruns no more than it must; each starts Python and"
    " imports what it uses. A job of a detector imports its own method only.",
    "torchvision cannot be imported in part: its package imports `torchvision.ops`, and that `torch._dynamo`, half of"
    " the time. Only jobs that read images, or run one of its networks, import it, when they do so: it stands in their"
    " work. Optimizers of torch import `torch._dynamo` as well, when the first is made, so that the import stands in"
    " the work of the jobs that train. CleverHans adds next to nothing.",
]

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "rules", "workflow_scripts", "schemas", "config.yaml", "profiles", "report", "envs")
CORES = 2
SHOWN = ["detector", "protocol", "measure", "cell", "value", "low", "high"]


def run(quick: bool) -> list[Table]:
    if quick:
        return [Table("The default run", [{"rule": "not run: it is as small as it can be"}])]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in PARTS:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, folder / name)
        wall, again = (seconds(folder, "-m", "snakemake", "--cores", str(CORES)) for _ in range(2))
        results = folder / "results" / yaml.safe_load((folder / "config.yaml").read_text())["run"]
        jobs = pd.DataFrame(
            [
                {**record(path), "rule": rule(path.relative_to(results / "benchmarks"))}
                for path in (results / "benchmarks").rglob("*.tsv")
            ]
        )
        importing = {name: imported(folder / "workflow_scripts" / f"{name}.py") for name in set(jobs["rule"])}
        summary = tables.read(results / "summary.zarr.zip").query("population == 'all'")[SHOWN]
    rules = jobs.groupby("rule", sort=False).agg(
        jobs=("s", "size"), s=("s", "sum"), cpu=("cpu_time", "sum"), mb=("max_rss", "max")
    )
    busy = rules["s"].sum()
    rows = [
        {
            "rule": row.Index, "jobs": str(row.jobs), "seconds of its jobs": row.s, "CPU seconds": row.cpu,
            "of them imports": row.jobs * importing[row.Index], "share": row.s / busy, "peak MB": row.mb,
        }
        for row in rules.sort_values("s", ascending=False).itertuples()
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


# Of rules whose files in `benchmarks/` are in a folder, or named, for the stage.
RULES = {
    "medoids": "medoid", "gaussians": "gaussian", "distances": "distance", "neighbours": "neighbour",
    "verdicts": "verdict", "folds": "fold", "figures": "figure",
}  # fmt: skip


def rule(path: Path) -> str:
    """The rule, which its script is named for, by the path of a job's file under `benchmarks/`."""
    stage, job = path.parts[0].removesuffix(".tsv"), path.stem
    match stage:
        case "detectors":
            return job.split(".")[-1]
        case "images":
            return "image" if job == "original" else "attack"
        case "activations":
            return "reference_activation" if path.parts[1] == "reference" else "activation"
        case "adaptive":
            return "adapt" if len(path.parts) > 1 else "adaptive_table"
    return RULES.get(stage, stage)


def imported(script: Path) -> float:
    """CPU seconds of a script's imports, the least of three: other work on the machine only adds to them."""
    lines = [
        ast.unparse(node)
        for node in ast.parse(script.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    if script.stem in ("train", "evaluate"):
        lines.append(f"import {module(METHODS['lstm'].implementation)}")
    # The interpreter's own start is in it, some hundredths.
    lines.append("import time; print(time.process_time())")
    command = [sys.executable, "-c", "\n".join(lines)]
    return min(
        float(subprocess.run(command, cwd=script.parent, check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    )


def seconds(folder: Path, *command: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begin
