"""Kills at any moment: the same command goes on, and what is made is that of an undisturbed run.

Again and again on a Snakefile of five rules, whose jobs do nothing but what `written` is for; three times on a real run.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import psutil
import pytest
import torch
from safetensors.numpy import load_file

from conftest import ROOT, Workflow
from detour import store

pytestmark = pytest.mark.slow

LOCKED = "Directory cannot be locked"


def read_store(path: Path) -> None:
    """Every chunk of it, each with its CRC."""
    group = store.read(path)
    for _, array in group.arrays():
        array[:]


def read_torch(path: Path) -> None:
    with zipfile.ZipFile(path) as zipped:
        assert zipped.testzip() is None
    torch.load(path, weights_only=True)


def ends_with(end: bytes) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        assert path.read_bytes().rstrip().endswith(end), path

    return read


Readers = dict[str, Callable[[Path], Any]]
READERS: Readers = {
    ".zip": read_store,
    ".pt": read_torch,
    ".csv": partial(pd.read_csv, dtype=str, keep_default_na=False),
    ".svg": ElementTree.parse,
    ".pdf": ends_with(b"%%EOF"),
    ".html": ends_with(b"</html>"),
    ".json": ends_with(b"}"),
    ".safetensors": load_file,
    ".md": Path.read_text,
}


def read_all(results: Path, readers: Readers) -> int:
    """Read every artefact that is there; logs and benchmarks are Snakemake's and none."""
    found = [
        path
        for path in results.rglob("*")
        if path.is_file()
        # Snakemake leaves a time in a folder.
        and path.name != ".snakemake_timestamp"
        and not any(part.startswith(".part-") for part in path.relative_to(results).parts)
        and path.relative_to(results).parts[0] not in ("logs", "benchmarks")
    ]
    for path in found:
        readers[path.suffix](path)
    return len(found)


# Two branches, which run at the same time, and jobs of a fifth of a second. That of `slow` takes longer than Snakemake
# takes to start, so that it can be at work still when the same command begins it anew.
RULES = {
    "first": ([], 0.2),
    "quick": (["first"], 0.2),
    "slow": (["first"], 4),
    "both": (["quick", "slow"], 0.2),
    "last": (["first", "both"], 0.2),
}
FIVE = """
rule all:
    default_target: True
    input: "results/small/last.csv"
""" + "".join(
    f"""
rule {name}:
    input: {[f"results/small/{read}.csv" for read in inputs]}
    output: "results/small/{name}.csv"
    log: "results/small/logs/{name}.log"
    params: seconds={seconds}
    script: "{name}.py"
"""
    for name, (inputs, seconds) in RULES.items()
)
JOB = """
import time
from pathlib import Path
from detour.artefacts import written

text = "".join(["rule\\n", *(Path(path).read_text() for path in snakemake.input), snakemake.rule, "\\nend\\n"])
with written(snakemake.output[0]) as part, part.open("w") as file:
    file.write(text[: len(text) // 2])
    file.flush()
    time.sleep(snakemake.params.seconds)
    file.write(text[len(text) // 2 :])
"""


class Five(Workflow):
    """The Snakefile of five rules."""

    python = sys.executable

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings = folder, {"run": "small"}
        folder.mkdir()
        shutil.copytree(ROOT / "profiles/default", folder / "profiles/default")
        (folder / "Snakefile").write_text(FIVE)
        for name in RULES:
            (folder / f"{name}.py").write_text(JOB)

    def started(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        return super().started(*options, PYTHONPATH=str(ROOT / "workflow_scripts"), **environment)


class Killed:
    """A run that is killed again and again; every process of it is in a session that it began."""

    def __init__(self, workflow: Workflow, readers: Readers, kills: int, pause: float) -> None:
        self.workflow, self.readers, self.kills, self.pause = workflow, readers, kills, pause
        self.sessions: list[int] = []
        self.moments = random.Random(0)
        self.printed = workflow.printed

    def start(self) -> subprocess.Popen[bytes]:
        process = self.workflow.started()
        self.sessions.append(process.pid)
        return process

    def processes(self, *sessions: int) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) in sessions:
                    yield process
            except (ProcessLookupError, psutil.NoSuchProcess):
                pass

    def jobs(self, session: int) -> dict[psutil.Process, str]:
        """The scripts that run, without the shells that Snakemake calls them by."""
        found = {}
        for process in self.processes(session):
            try:
                command = process.cmdline()
            except psutil.NoSuchProcess:
                continue
            if len(command) > 1 and ".snakemake/scripts/" in command[1] and "python" in command[0]:
                found[process] = command[1].split(".")[-2]
        return found

    def wait_for_jobs(self, process: subprocess.Popen[bytes], ended: int) -> None:
        """Until so many jobs have ended and another runs, or Snakemake has ended; for -1 not at all."""
        while (
            process.poll() is None
            and ended >= 0
            and (self.printed.read_text().count(" steps (") < ended or not self.jobs(process.pid))
        ):
            time.sleep(0.1)

    def end(self) -> None:
        """End the orphans that are left."""
        for process in self.processes(*self.sessions):
            process.kill()


def snakemake(run: Killed, process: subprocess.Popen[bytes], jobs: dict[psutil.Process, str]) -> bool:
    """Snakemake alone: its jobs live on."""
    process.kill()
    process.wait()
    return bool(jobs)


def a_job(run: Killed, process: subprocess.Popen[bytes], jobs: dict[psutil.Process, str]) -> bool:
    """One job: Snakemake ends by itself and says which it was and where its log is."""
    victim, script = run.moments.choice(list(jobs.items()))
    with suppress(psutil.NoSuchProcess):
        victim.kill()
    if process.wait() == 0:
        # The job had ended in the same moment.
        return False
    printed = run.printed.read_text()
    assert f"Error in rule {script}" in printed, printed
    assert "results/small/logs/" in printed.split(f"Error in rule {script}")[1], printed
    return True


def everything(run: Killed, process: subprocess.Popen[bytes], jobs: dict[psutil.Process, str]) -> bool:
    """All at once, as a loss of power does; what that takes from the disk's cache cannot be seen here."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return bool(jobs)


WAYS = (snakemake, a_job, everything)


def test_after_kills_at_any_moment_the_same_command_makes_what_an_undisturbed_run_makes(tmp_path):
    undisturbed = Five(tmp_path / "undisturbed")
    ran = undisturbed.snakemake()
    assert ran.returncode == 0, ran.stdout
    end_with_it(
        Killed(Five(tmp_path / "killed"), {".csv": ends_with(b"end")}, kills=12, pause=1), undisturbed
    )


def test_after_a_kill_of_each_kind_the_scores_are_those_of_an_undisturbed_run(lean, tmp_path):
    killed = Workflow(tmp_path / "killed", lean.settings)
    killed.python = sys.executable
    end_with_it(Killed(killed, READERS, kills=len(WAYS), pause=3), lean)


def end_with_it(run: Killed, undisturbed: Workflow) -> None:
    """Kill it, let it complete, and compare."""
    try:
        kill_again_and_again(run)
        run.workflow.snakemake("--unlock")
        done = run.workflow.snakemake()
        assert done.returncode == 0, done.stdout
    finally:
        run.end()
    results = run.workflow.results
    tables = [path.relative_to(undisturbed.results) for path in undisturbed.results.glob("*.csv")]
    assert tables
    for name in tables:
        assert (results / name).read_bytes() == (undisturbed.results / name).read_bytes(), name
    assert read_all(results, run.readers) == read_all(undisturbed.results, run.readers)
    assert not list(results.rglob(".part-*"))
    assert "Nothing to be done" in run.workflow.snakemake("--dry-run").stdout


def kill_again_and_again(run: Killed) -> None:
    """Kill in three ways in turn, each time some moments after a few jobs have ended."""
    landed: Counter[str] = Counter()
    begin = time.monotonic()
    while landed.total() < run.kills:
        assert len(run.sessions) < 10 * run.kills, f"no job is found to be killed: {dict(landed)}"
        process = run.start()
        run.wait_for_jobs(process, run.moments.choice([-1, 0, 0, 1, 1, 1]))
        time.sleep(run.moments.uniform(0, run.pause))
        jobs = run.jobs(process.pid)
        if process.poll() is None:
            # Before the first job and between two, Snakemake is all there is; that does not count.
            how = WAYS[landed.total() % len(WAYS)] if jobs else snakemake
            landed[how.__name__] += how(run, process, jobs)
            print(
                f"{time.monotonic() - begin:.0f} s: {how.__name__} killed, at work: {sorted(jobs.values())},"
                f" whole: {read_all(run.workflow.results, run.readers)}, live on: {len(list(run.processes(*run.sessions)))}"
            )
        elif LOCKED in (printed := run.printed.read_text()):
            assert "was likely caused by a kill signal or a power loss" in printed
            assert "It can be removed with the --unlock argument" in printed
            unlocked = run.workflow.snakemake("--unlock")
            assert unlocked.returncode == 0, unlocked.stdout
        else:
            assert process.returncode == 0, printed
            print("completed; all is deleted")
            shutil.rmtree(run.workflow.results)
            shutil.rmtree(run.workflow.folder / ".snakemake")
    print(dict(landed))
