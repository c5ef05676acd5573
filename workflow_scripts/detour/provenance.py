"""Provenance: when, where and by which command a run was made, for its report; no result depends on it."""

import csv
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from detour.artefacts import written
from detour.spelling import shown

# What a start leaves in the folder of a run. It is no input of the report: another start alone makes none
# anew, and the page is the same bytes as often as it is made of the same start.
NAME = "started.json"

# Of options whose values are nobody else's, as of a storage or a scheduler; reports are passed on.
SECRET = re.compile(r"--\S*(key|secret|token|password|credential)", re.IGNORECASE)


def record(folder: Path, root: Path, arguments: Sequence[str]) -> None:
    """Write down the start of a run.

    Parameters
    ----------
    folder
        Of the run.
    root
        Of the workflow.
    arguments
        Of Snakemake.
    """
    found = {
        "started": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shown(shlex.join(["snakemake", *_open(arguments)])),
        "Detour": release(root),
        "commit": commit(root),
        "machine": machine(),
    }
    with written(folder / NAME) as part:
        part.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _open(arguments: Sequence[str]) -> Iterator[str]:
    """Arguments without what belongs to secret options, as `--storage-s3-secret-key VALUE`."""
    hidden = False
    for argument in arguments:
        option, equals, _ = argument.partition("=")
        if argument.startswith("--"):
            hidden = bool(SECRET.match(option))
            yield f"{option}=..." if hidden and equals else argument
        else:
            yield "..." if hidden else argument


def recalled(folder: Path) -> dict[str, str]:
    """What the last start wrote down, and what its jobs took; what is not there is said to be so."""
    try:
        found = json.loads((folder / NAME).read_text("utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        found = {"started": f"not recorded: there is no {NAME} that can be read"}
    return found | {"run time": spent(folder / "benchmarks")}


def spent(benchmarks: Path) -> str:
    """Seconds of all jobs together, by the files that Snakemake writes of them."""
    # Not the report's own, which is of the page before this one.
    paths = [path for path in sorted(benchmarks.rglob("*.tsv")) if path.name != "report.tsv"]
    seconds = []
    for path in paths:
        with path.open(errors="replace") as file, suppress(KeyError, ValueError, TypeError):
            seconds += [float(row["s"]) for row in list(csv.DictReader(file, delimiter="\t"))[:1]]
    if not seconds:
        return "not recorded: there are no files under benchmarks/ that can be read"
    lost = len(paths) - len(seconds)
    left_out = f", without {lost} whose files cannot be read" if lost else ""
    took = timedelta(seconds=round(sum(seconds)))
    return f"{took} (h:mm:ss) of {len(seconds)} jobs, one after the other{left_out}"


def release(root: Path) -> str:
    """The version of this workflow."""
    try:
        about: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    except FileNotFoundError:
        return "not known: the workflow is without its pyproject.toml"
    return str(about["project"]["version"])


def commit(root: Path) -> str:
    """The commit that is checked out, with `-dirty` where files differ from it."""
    # A folder in the repository of another project is at none of this one's commits.
    if not (root / ".git").exists():
        return "none: the workflow is no checkout of git"
    described = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    try:
        asked = subprocess.run(described, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"not known: git cannot be run ({error.strerror})"
    return asked.stdout.strip() or f"not known: {asked.stderr.strip()}"


def machine() -> str:
    """Processor, cores, memory, GPUs and system of the machine that this runs on."""
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return ", ".join([
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB",
        *_gpus(),
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    ])  # fmt: skip


def _gpus() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        # A driver that hangs is not to hold up the run.
        found = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return [f"GPUs not known ({error})"]
    return found.stdout.splitlines()
