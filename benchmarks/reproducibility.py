"""Reproducibility: the figures of the default run as other processors and numbers of cores would give them.

    python -m benchmarks.reproducibility [VARIATION ...] [--work FOLDER] [--write docs/reproducibility.md]

Each variation is the default run in a folder of its own, with kernels of another instruction set (what another kind of
processor would use) or another number of cores. A folder that has a finished run is not run again, so that a stopped
measurement goes on with the same command; a changed workflow needs another folder.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
import zarr
from tabulate import tabulate

from benchmarks.demo import PARTS, ROOT
from benchmarks.machine import description
from detour import store, tables

BASELINE = "baseline"
MARK = "<!-- table -->"
KEYS = ["detector", "protocol", "measure", "cell"]


@dataclass(frozen=True)
class Variation:
    """What is different from the baseline: variables of the environment, and how many cores.

    Parameters
    ----------
    needs
        What the processor must have, a flag of Linux's /proc/cpuinfo; others are left out, and said.
    """

    environment: dict[str, str] = field(default_factory=dict)
    cores: int = 2
    needs: str = ""


VARIATIONS = {
    BASELINE: Variation(),
    "ATen without vectors": Variation({"ATEN_CPU_CAPABILITY": "default"}),
    "ATen AVX2": Variation({"ATEN_CPU_CAPABILITY": "avx2"}, needs="avx2"),
    "ATen AVX-512": Variation({"ATEN_CPU_CAPABILITY": "avx512"}, needs="avx512f"),
    "oneDNN SSE4.1": Variation({"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    "oneDNN AVX2": Variation({"ONEDNN_MAX_CPU_ISA": "AVX2"}, needs="avx2"),
    "OpenBLAS Nehalem": Variation({"OPENBLAS_CORETYPE": "Nehalem"}),
    "OpenBLAS Haswell": Variation({"OPENBLAS_CORETYPE": "Haswell"}, needs="avx2"),
    "OpenBLAS SkylakeX": Variation({"OPENBLAS_CORETYPE": "SkylakeX"}, needs="avx512f"),
    "1 core": Variation(cores=1),
    "4 cores": Variation(cores=4),
    # All of an older processor at once.
    "everything SSE4": Variation(
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem"}
    ),
    "everything AVX2": Variation(
        {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell"},
        needs="avx2",
    ),
}

# Artefacts by what they are called in the table.
ARTEFACTS = {
    "originals": "images/original.zarr.zip",
    "attacked images": "images/*.zarr.zip",
    "activations": "activations/*.zarr.zip",
    "reference": "activations/reference/*.zarr.zip",
    "medoids": "medoids/*.zarr.zip",
    "distances": "distances/*/*.zarr.zip",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reproducibility", description=__doc__.split("\n")[0]
    )
    parser.add_argument("variations", nargs="*", help=f"of: {', '.join(VARIATIONS)}; none: all")
    parser.add_argument(
        "--work", type=Path, help="folder of the runs (%(default)s)", default=Path("reproducibility")
    )
    parser.add_argument(
        "--write", type=Path, help=f"Markdown file whose tables stand between {MARK} and the next heading"
    )
    asked = parser.parse_args()
    if unknown := set(asked.variations) - set(VARIATIONS):
        parser.error(f"unknown variations: {', '.join(sorted(unknown))}; known: {', '.join(VARIATIONS)}")
    if asked.write and MARK not in asked.write.read_text():
        parser.error(f"{asked.write}: has no line {MARK}, behind which the tables go")
    flags = Path("/proc/cpuinfo").read_text().split()
    results = {}
    for name in dict.fromkeys([BASELINE, *(asked.variations or VARIATIONS)]):
        if (needed := VARIATIONS[name].needs) and needed not in flags:
            print(f"{name}: left out, as this processor has no {needed}", file=sys.stderr)
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        results[name] = finished(asked.work / re.sub(r"\W+", "-", name.lower()), VARIATIONS[name])
    text = page(results)
    print(text)
    if asked.write:
        before, after = asked.write.read_text().split(MARK)
        # What was there is replaced, up to the next heading.
        _, heading, rest = after.partition("\n## ")
        asked.write.write_text(f"{before}{MARK}\n\n{text}\n{heading}{rest}")


def finished(folder: Path, variation: Variation) -> Path:
    """The results of the default run under a variation, which is run where it is not there."""
    if not (folder / "Snakefile").exists():
        folder.mkdir(parents=True, exist_ok=True)
        # The Snakefile is last of them: with it, the copy is whole.
        for name in (*PARTS[1:], PARTS[0]):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, folder / name, **({"dirs_exist_ok": True} if (ROOT / name).is_dir() else {}))
    results = folder / "results" / yaml.safe_load((folder / "config.yaml").read_text())["run"]
    if not (results / "report.html").exists():
        # A library of elsewhere must not come before the copy's.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        with (folder / "printed.txt").open("w") as printed:
            ran = subprocess.run(
                [sys.executable, "-m", "snakemake", "--cores", str(variation.cores)],
                cwd=folder, env=environment | variation.environment, stdout=printed, stderr=printed, check=False,
            )  # fmt: skip
        if ran.returncode:
            raise SystemExit(
                f"the run in {folder} failed; {folder / 'printed.txt'} says why; the same command goes on"
            )
    return results


def page(results: dict[str, Path]) -> str:
    """The tables, in Markdown."""
    figures = {name: headline(folder) for name, folder in results.items()}
    base = figures[BASELINE]
    machine = description()
    lines = [
        f"{machine['CPU']}; ATen by default {torch.backends.cpu.get_cpu_capability()}; {machine['libraries']};"
        f" Python {platform.python_version()}.",
        "",
    ]
    shown = pd.DataFrame(
        {BASELINE: [f"{r.value:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in base.itertuples()]},
        index=base.index,
    )
    outside = {}
    for name, found in figures.items():
        if name != BASELINE:
            if not found.index.equals(base.index):
                raise SystemExit(
                    f"{name}: its summary has other rows than the baseline's; use another --work"
                )
            # An interval without width, as of a share that is 1, holds its own value alone.
            inside = found["value"].between(base["low"], base["high"]) | np.isclose(
                found["value"], base["value"], atol=5e-4
            )
            shown[name] = [
                f"{v:.3f}" + ("" if i else " **outside**")
                for v, i in zip(found["value"], inside, strict=True)
            ]
            outside[name] = f"{inside.sum()} of {len(inside)}"
    lines += ["Every headline figure; in brackets the baseline's 95 % interval.", ""]
    lines += [
        tabulate(
            shown.reset_index(), headers="keys", tablefmt="github", showindex=False, disable_numparse=True
        ),
        "",
    ]
    same = [
        {"variation": name, "figures inside": outside[name]} | identical(results[BASELINE], folder)
        for name, folder in results.items()
        if name != BASELINE
    ]
    if same:
        lines += [
            "Artefacts whose arrays are the same bytes as the baseline's; otherwise the share of the values that are"
            " others, and the largest difference.",
            "",
            tabulate(same, headers="keys", tablefmt="github", disable_numparse=True),
        ]
    return "\n".join(lines)


def headline(folder: Path) -> pd.DataFrame:
    """Rows of the summary of all images, by what they are of."""
    summary = tables.read(folder / "summary.zarr.zip")
    return summary[summary["population"] == "all"].set_index(KEYS)[["value", "low", "high"]]


def identical(base: Path, other: Path) -> dict[str, str]:
    """Of each kind of artefact, how it is not the baseline's."""
    found = {}
    for kind, pattern in ARTEFACTS.items():
        pairs = [
            pair
            for path in sorted(base.glob(pattern))
            if kind != "attacked images" or path.name != "original.zarr.zip"
            for pair in arrays(path, other / path.relative_to(base))
        ]
        found[kind] = difference(pairs)
    scores = [tables.read(folder / "scores.zarr.zip") for folder in (base, other)]
    numbers = [table.select_dtypes("number").to_numpy(dtype=np.float64) for table in scores]
    found["scores"] = difference([(numbers[0], numbers[1])])
    return found


def arrays(first: Path, second: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """The arrays of two stores, side by side."""
    one, two = store.read(first), store.read(second)
    return [
        (one[name][:], two[name][:]) for name, found in sorted(one.members()) if isinstance(found, zarr.Array)
    ]


def difference(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """`same`, or how many values differ and how much."""
    if all(a.tobytes() == b.tobytes() for a, b in pairs):
        return "same"
    changed = sum(int((a != b).sum()) for a, b in pairs)
    largest = max(float(np.nanmax(np.abs(a.astype(np.float64) - b))) for a, b in pairs)
    return f"{changed / sum(a.size for a, _ in pairs):.2%}, {largest:.2g}"


if __name__ == "__main__":
    main()
