"""Devices are pretended by an `nvidia-smi` of our own; the processes that claim them are real."""

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

GPUS = ["GPU-aa", "GPU-bb", "GPU-cc"]

# What a job does: claim, say what it has, and hold it as long as it runs.
JOB = """
import logging, os, sys
from detour import devices
logging.basicConfig(level=logging.INFO)
devices.claim()
print(os.environ.get("CUDA_VISIBLE_DEVICES", "unset"), flush=True)
sys.stdin.read()
"""


class Machine:
    """With pretended devices."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: list[subprocess.Popen[str]] = []
        self.environment = {
            "PATH": f"{folder}:/usr/bin:/bin",
            "TMPDIR": str(folder),
            "PYTHONPATH": str(ROOT / "workflow_scripts"),
        }
        self.smi(f"printf '%s\\n' {' '.join(GPUS)}")

    def smi(self, script: str) -> None:
        path = self.folder / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def begin(self, count: int = 1, **environment: str) -> list[subprocess.Popen[str]]:
        """Start jobs at once."""
        began = [
            subprocess.Popen(
                [sys.executable, "-c", JOB],
                env=self.environment | environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for _ in range(count)
        ]  # fmt: skip
        self.jobs += began
        return began

    def claimed(self, count: int = 1, **environment: str) -> list[str]:
        """What jobs that begin at once have as CUDA_VISIBLE_DEVICES; they go on."""
        return [job.stdout.readline().strip() for job in self.begin(count, **environment)]


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    yield machine
    for job in machine.jobs:
        job.kill()
        job.communicate()


def test_jobs_that_run_at_once_have_different_devices(machine):
    assert sorted(machine.claimed(3)) == GPUS
    machine.jobs[0].communicate("")
    assert "device: GPU-" in machine.jobs[1].communicate("")[1]


def test_the_device_of_a_killed_job_is_free_again(machine):
    held = machine.claimed(3)
    machine.jobs[1].kill()
    machine.jobs[1].wait()
    assert machine.claimed() == [held[1]]


def test_more_jobs_than_devices_are_spread_evenly(machine):
    first, second = machine.claimed(3), machine.claimed(3)
    assert sorted(first) == sorted(second) == GPUS
    machine.jobs[4].kill()
    machine.jobs[4].wait()
    assert machine.claimed() == [second[1]]


@pytest.mark.parametrize("given", ["1", "GPU-zz", ""])
def test_a_choice_of_another_is_left_alone(machine, given):
    assert machine.claimed(2, CUDA_VISIBLE_DEVICES=given) == [given, given]


def test_without_nvidia_smi_nothing_is_done(machine):
    (machine.folder / "nvidia-smi").unlink()
    # Nor is one of this machine's own found.
    assert machine.claimed(PATH=str(machine.folder)) == ["unset"]


@pytest.mark.parametrize("found", ["GPU-aa", "No devices were found"])
def test_where_there_are_no_two_devices_nothing_is_done(machine, found):
    machine.smi(f"echo {found}")
    assert machine.claimed(2) == ["unset", "unset"]


def test_a_broken_nvidia_smi_is_logged_and_nothing_is_done(machine):
    machine.smi("echo 'Failed to initialize NVML'; exit 9")
    (job,) = machine.begin()
    printed, logged = job.communicate("")
    assert printed.strip() == "unset"
    assert "nvidia-smi ended with 9: Failed to initialize NVML" in logged
