"""Runs that share what is equal, by Snakemake's cache between workflows."""

import copy
from pathlib import Path

import pytest

from conftest import LEAN, Workflow
from detour import store

DISTANCES = "distances/medoid-l2/step.zarr.zip"
# What comes before the attack, and what comes of it.
EQUAL = [
    "classifier.pt", "images/original.zarr.zip", "activations/original.zarr.zip", "activations/reference/0.zarr.zip",
    "activations/reference/1.zarr.zip", "medoids/stem.zarr.zip", "medoids/blocks.7.zarr.zip",
    DISTANCES.replace("step", "original"),
]  # fmt: skip
OWN = ["images/step.zarr.zip", "activations/step.zarr.zip", DISTANCES]


@pytest.mark.parametrize("place", [{}, {"SNAKEMAKE_OUTPUT_CACHE": "nowhere"}])
def test_a_cache_needs_a_folder(tmp_path, place):
    ran = Workflow(tmp_path / "project", LEAN).snakemake("--dry-run", "--cache", **place)
    assert ran.returncode == 1
    assert "--cache: found '" in ran.stdout
    assert "SNAKEMAKE_OUTPUT_CACHE, expected a folder that is there" in ran.stdout
    assert "Traceback" not in ran.stdout


@pytest.mark.slow
def test_a_run_with_another_eps_computes_no_classifier_reference_or_medoid_again(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    workflow = Workflow(tmp_path / "project", copy.deepcopy(LEAN))

    def run(name: str, eps: int) -> Path:
        """Distances, those of the originals too."""
        workflow.settings["run"] = name
        workflow.settings["attacks"][0]["eps"] = eps
        targets = [f"results/{name}/{path}" for path in (DISTANCES, EQUAL[-1])]
        ran = workflow.snakemake(*targets, "--cache", SNAKEMAKE_OUTPUT_CACHE=str(folder))
        assert ran.returncode == 0, ran.stdout
        return workflow.results

    def written() -> set[tuple[str, int]]:
        return {(path.name, path.stat().st_mtime_ns) for path in folder.iterdir()}

    one = run("one", 32)
    made = written()
    assert len(made) == len(EQUAL) + len(OWN)
    other = run("other", 16)
    assert written() >= made
    assert len(written()) == len(made) + len(OWN)
    for path in EQUAL:
        assert (other / path).is_symlink(), path
        assert (other / path).samefile(one / path), path
    for path in OWN:
        assert not (other / path).samefile(one / path), path
    # What was taken over is read and checked like all else, and a run of its own gives the same.
    alone = workflow.settings["run"] = "alone"
    ran = workflow.snakemake(f"results/{alone}/{DISTANCES}")
    assert ran.returncode == 0, ran.stdout
    assert not (workflow.results / DISTANCES).is_symlink()
    assert store.digest(workflow.results / DISTANCES) == store.digest(other / DISTANCES)
