"""What a start of the workflow says before any job, of the machine that it is on."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SMALL, Workflow
from detour import console, store


def test_a_python_at_a_path_with_a_space_is_told_in_one_line(tmp_path):
    """Snakemake would have bash look for a program of half the path: exit status 127, job after job."""
    workflow = Workflow(tmp_path / "w", SMALL)
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b/venv").symlink_to(Path(sys.executable).parents[1])
    python = tmp_path / "a b/venv/bin/python"
    ran = subprocess.run(
        [python, "-m", "snakemake", *workflow.arguments("results/small/folds.csv")],
        cwd=workflow.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert (
        f"Python is at {python}, and Snakemake starts jobs by a command line that such a path" in ran.stderr
    )
    assert "Job stats" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "path", ["/a b/python", "/a'b/python", '/a"b/python', "/$a/python", "/a&b/python", "/(a)/python"]
)
def test_what_a_shell_would_not_take_for_one_word_is_refused_and_nothing_else(path):
    assert not console.one_word(path)
    for plain in ("/usr/bin/python3.11", "/home/j\u00f6rg/.venv/bin/python", "/opt/a-b_c+d@e:f,g=h%i/python"):
        assert console.one_word(plain)
        words = subprocess.check_output(["bash", "-c", f"printf '%s|' {plain}"], text=True, env=os.environ)
        assert words == f"{plain}|"


def test_the_project_may_be_at_a_path_with_a_space(tmp_path):
    workflow = Workflow(tmp_path / "a b", SMALL)
    ran = workflow.snakemake("results/small/folds.csv")
    assert ran.returncode == 0, ran.stdout
    assert (workflow.results / "folds.csv").exists()


def test_fisher_of_some_layers_reads_their_own_gaussian(copied):
    """Decomposed once for all folds and seeds, as that of all layers."""
    copied.settings["detectors"] += [
        {"name": "some", "method": "fisher", "layers": ["stem", "blocks.7"]},
        {"name": "same", "method": "fisher_mlp", "layers": ["stem", "blocks.7"], "ridge": 0.1},
        {"name": "every", "method": "fisher_mlp", "layers": ["stem", "blocks.4", "blocks.7"]},
    ]
    ran = copied.snakemake("detectors", "--dry-run", "--quiet", "host")
    assert ran.returncode == 0, ran.stdout
    made = re.findall(r"fit the classes' means and covariance at (\S+)", ran.stdout)
    assert [re.sub(r"-[0-9a-f]{8}$", "-", name) for name in made] == ["joint-"]


@pytest.mark.slow
def test_hop_skip_jump_alone_is_told_of_the_dataset(copied):
    """So that no other attack is made again, whatever changes in the reference."""
    copied.settings["attacks"].append({"name": "hop", "method": "hop_skip_jump", "steps": 1, "samples": 2})
    ran = copied.snakemake("results/small/images/hop.zarr.zip")
    assert ran.returncode == 0, ran.stdout
    settings = {
        name: store.read(copied.results / f"images/{name}.zarr.zip").attrs["settings"]
        for name in ("hop", "step")
    }
    assert settings["hop"]["dataset"]["name"] == "digits"
    assert "dataset" not in settings["step"]
