"""What several test modules share: small stores and networks, and a finished run of the workflow."""

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from detour import classifiers, store
from detour.store import Made

# Beside other processes, threads that wait for each other cost more than they give.
torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]
WORKFLOW = ("Snakefile", "rules", "workflow_scripts", "schemas", "config.yaml", "presets", "profiles",
            "report", "envs")  # fmt: skip

# The default run in small: every stage and every kind of entry, in about a minute.
SMALL = {
    "run": "small",
    "dataset": {"name": "digits", "test": 100, "size": 16},
    "classifier": {
        "model": "resnet18",
        "weights": "train",
        "layers": ["maxpool", "layer2.1", "layer4.1"],
        "training": {"epochs": 2},
    },
    "attacks": [
        {"name": "step", "method": "iterative", "eps": 32, "steps": 3, "step": 16},
        {"name": "noise", "method": "noise", "eps": 32},
    ],
    "folds": {"count": 2},
    "detectors": [{"name": "lstm", "method": "lstm", "epochs": 3}, {"name": "knn", "method": "knn"}],
    "figures": {"samples": 2, "tsne_images": 20},
}


@pytest.fixture
def made() -> Made:
    return Made({"seed": 0}, "0" * 16)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


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
    """A copy of the workflow in a folder of its own, with its configuration in `settings`."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        folder.mkdir(exist_ok=True)
        for name in WORKFLOW:
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
        (self.folder / "run.yaml").write_text(yaml.safe_dump(self.settings, sort_keys=False))
        cores = () if "--profile" in options else ("--cores", "2")
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--configfile", "run.yaml", *cores, *options],
            cwd=self.folder,
            env=os.environ | environment,
            stdout=self.printed.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def printed(self) -> Path:
        return self.folder / "printed.txt"

    @property
    def results(self) -> Path:
        return self.folder / "results" / self.settings["run"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The small run, finished. Tests leave it as it is, or copy it."""
    workflow = Workflow(tmp_path_factory.mktemp("workflow"), SMALL)
    ran = workflow.snakemake()
    assert ran.returncode == 0, ran.stdout
    return workflow


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
