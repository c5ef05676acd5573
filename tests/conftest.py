"""What several test modules share: small stores and networks, and a finished run of the workflow."""

import atexit
import copy
import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from filelock import FileLock

from detour import classifiers, store, tables
from detour.store import Made

# Python itself, whatever `forked` puts in its place.
INTERPRETER = sys.executable

# Beside other processes, threads that wait for each other cost more than they give.
torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]
WORKFLOW = ("Snakefile", "rules", "workflow_scripts", "schemas", "config.yaml", "presets", "profiles",
            "report", "envs")  # fmt: skip

# The default run in small, and what else a run may have: every protocol, several seeds, distances to centroids and by
# angle, an attack on detectors.
SMALL = {
    "run": "small",
    "dataset": {"name": "digits", "test": 100},
    "classifier": {"model": "small_resnet", "weights": "DIGITS", "layers": ["stem", "blocks.4", "blocks.7"]},
    "attacks": [
        {"name": "step", "method": "iterative", "eps": 32, "steps": 3, "step": 16},
        {"name": "noise", "method": "noise", "eps": 32},
    ],
    "folds": {"count": 2},
    "protocols": ["known", "unknown", "transfer"],
    "seeds": [0, 1],
    "detectors": [
        {"name": "lstm", "method": "lstm", "epochs": 3},
        {"name": "knn", "method": "knn"},
        {"name": "logistic", "method": "logistic", "representative": "centroid", "metric": "cosine"},
        {"name": "fisher", "method": "fisher"},
    ],
    "adaptive": {
        "methods": ["orthogonal"],
        "detectors": ["lstm", "fisher"],
        "eps": [0, 255],
        "steps": 3,
        "images": 4,
        "fpr": 0.1,
    },
    "figures": {"samples": 2, "tsne_images": 20},
}
# Few jobs, of every kind but those of Gaussians: for runs whose processes cannot be forks.
LEAN = SMALL | {
    "classifier": SMALL["classifier"] | {"layers": ["stem", "blocks.7"]},
    "attacks": SMALL["attacks"][:1],
    "protocols": ["known"],
    "seeds": [0],
    "detectors": SMALL["detectors"][:2],
    "adaptive": SMALL["adaptive"] | {"detectors": ["lstm"], "eps": [255]},
}


@pytest.fixture
def made() -> Made:
    return Made({"seed": 0}, "0" * 16)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def write_table(tmp_path: Path, made: Made) -> Callable[[str, pd.DataFrame], Path]:
    """Write a table that jobs read: `write_table(name, table)`."""

    def write(name: str, table: pd.DataFrame) -> Path:
        path = tmp_path / f"{name}.zarr.zip"
        tables.write(path, table, made)
        return path

    return write


@pytest.fixture
def write_store(tmp_path: Path, made: Made) -> Callable[..., Path]:
    """Write arrays of equally many rows as a store: `write_store(name, {array: rows}, **attributes)`."""

    def write(name: str, arrays: dict[str, np.ndarray], **attributes: Any) -> Path:
        path = tmp_path / f"{name}.zarr.zip"
        with store.create(path, made, **attributes) as group:
            store.write(group, [arrays])
        return path

    return write


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stored classifier of a ResNet-18 of ten classes with seeded random weights."""
    folder = tmp_path_factory.mktemp("resnet")
    torch.save(classifiers.untrained("resnet18", 10, seed=0).state_dict(), folder / "state.pt")
    classifiers.prepare(
        folder / "classifier.pt",
        model="resnet18",
        weights=str(folder / "state.pt"),
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        classes=10,
        made=Made({}, ""),
    )
    return folder / "classifier.pt"


class Workflow:
    """A copy of the workflow in a folder of its own, with its configuration in `settings`.

    A folder that has one already is left as it is.

    Attributes
    ----------
    python
        What Snakemake and its jobs run in, where it is not `python()`.
    """

    python: str | None = None

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        folder.mkdir(exist_ok=True)
        for name in () if (folder / "Snakefile").exists() else WORKFLOW:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
            else:
                shutil.copy2(ROOT / name, folder / name)

    def snakemake(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `snakemake`; standard error is in `stdout`."""
        running = self.started(*options, **environment)
        running.wait()
        return subprocess.CompletedProcess(running.args, running.returncode, self.printed.read_text())

    def started(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start `snakemake` in a session of its own; what it says goes into the file `printed`."""
        return subprocess.Popen(
            [self.python or python(), "-m", "snakemake", *self.arguments(*options)],
            cwd=self.folder,
            env=os.environ | environment,
            stdout=self.printed.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def arguments(self, *options: str) -> list[str]:
        (self.folder / "run.yaml").write_text(yaml.safe_dump(self.settings, sort_keys=False))
        cores = () if "--profile" in options else ("--cores", "2")
        return ["--configfile", "run.yaml", *cores, *options]

    @property
    def printed(self) -> Path:
        return self.folder / "printed.txt"

    @property
    def results(self) -> Path:
        return self.folder / "results" / self.settings["run"]

    def table(self, name: str) -> pd.DataFrame:
        """A table of the run, whose columns have the types that they were written with."""
        return tables.read(self.results / f"{name}.zarr.zip")


@functools.cache
def python() -> str:
    """What may be run in place of Python, in a fork whose imports are done; see `forks.py`."""
    # Not pytest's: the name of a socket may not be long.
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    script, place, launcher = ROOT / "tests/forks.py", folder / "socket", folder / "python"
    command = shlex.join([sys.executable, "-I", "-S", str(script), str(place), str(launcher)])
    launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    launcher.chmod(0o755)
    # It ends when its standard input does, with this process.
    server = subprocess.Popen(
        [sys.executable, script, "serve", place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout.readline() == "listens\n"
    return str(launcher)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of code in a process of its own is asked in a fork, whose imports are done."""
    monkeypatch.setattr(sys, "executable", python())


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `snakemake` in a folder; standard error is in `stdout`."""
    return subprocess.run(
        [python(), "-m", "snakemake", *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[..., Path]:
    """Make a folder once for all workers of a test session: `shared(name, make)`, `make` fills a folder.

    Of several sessions, as of `make test-all`, where DETOUR_SHARED names a folder that they share.
    """
    own = tmp_path_factory.getbasetemp()
    root = Path(os.environ.get("DETOUR_SHARED") or (own if worker_id == "master" else own.parent))

    def once(name: str, make: Callable[[Path], None]) -> Path:
        folder = root / f"shared-{name}"
        done = root / f"shared-{name}.done"
        # Others wait for the one that came first; where that failed, the next one tries again.
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return once


def run_once(shared: Callable[..., Path], name: str, settings: dict[str, Any]) -> Workflow:
    """A finished run of these settings, made once under this name."""

    def run(folder: Path) -> None:
        ran = Workflow(folder, settings).snakemake()
        assert ran.returncode == 0, ran.stdout

    return Workflow(shared(name, run), copy.deepcopy(settings))


@pytest.fixture(scope="session")
def finished(shared) -> Workflow:
    """The small run, finished. Tests leave it as it is, or copy it."""
    return run_once(shared, "small", SMALL)


@pytest.fixture(scope="session")
def lean(shared) -> Workflow:
    """The lean run, finished."""
    return run_once(shared, "lean", LEAN)


@pytest.fixture
def copied(finished, tmp_path) -> Workflow:
    """A copy of the finished run, to be changed."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    return Workflow(tmp_path / "copy", copy.deepcopy(SMALL))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of shared real images."""
    folder = os.environ.get("DETOUR_DATA")
    if not folder:
        pytest.skip("DETOUR_DATA is not set: it names the folder of tiny-imagenet-20.tar")
    return Path(folder)
