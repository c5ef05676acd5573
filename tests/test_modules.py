"""The workflow as a module of another, from another folder, twice, with a prefix and without."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from conftest import ROOT, SMALL, snakemake
from detour.plan import COMPARED

FIRST = SMALL | {
    "run": "first",
    "attacks": SMALL["attacks"][:1],
    "detectors": [{"name": "knn", "method": "knn"}],
    "protocols": ["known"],
    "adaptive": {"methods": []},
}
CALLER = f"""
configfile: "own.yaml"

module first:
    snakefile: "{ROOT}/Snakefile"
    config: config["first"]

use rule * from first as first_*

module second:
    snakefile: "{ROOT}/Snakefile"
    config: config["second"]
    prefix: "below"

use rule * from second as second_*

rule both:
    default_target: True
    input:
        "results/first/verdicts.csv",
        "below/results/second/verdicts.csv",
    output:
        "both.csv",
    shell:
        "cat {{input}} > {{output}}"
"""


@pytest.fixture
def caller(tmp_path) -> Path:
    (tmp_path / "Snakefile").write_text(CALLER)
    second = FIRST | {"run": "second", "attacks": SMALL["attacks"][1:]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"first": FIRST, "second": second}, sort_keys=False))
    return tmp_path


def test_two_modules_and_a_rule_of_one_s_own_are_planned(caller):
    planned = snakemake(caller, "--cores", "1", "--dry-run")
    assert planned.returncode == 0, planned.stdout
    jobs = dict(
        line.split() for line in planned.stdout.splitlines() if len(line.split()) == 2 and line[0] in "fsb"
    )
    assert jobs["first_attack"] == jobs["second_attack"] == jobs["both"] == "1"


@pytest.mark.slow
def test_two_modules_share_what_is_equal(caller, monkeypatch):
    (caller / "cache").mkdir()
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(caller / "cache"))
    ran = snakemake(caller, "--cores", "2", "--cache")
    assert ran.returncode == 0, ran.stdout
    first, second = caller / "results/first", caller / "below/results/second"
    for path in ("classifier.pt", "images/original.zarr.zip", "activations/original.zarr.zip"):
        assert (first / path).is_symlink()
        assert (first / path).samefile(second / path)
    assert (caller / "both.csv").read_text().count("step") > 0


@pytest.mark.parametrize("name", ["run", "results"])
def test_paths_that_a_module_sets_are_refused_with_the_reason(caller, name):
    """They would move artefacts away from what they are checked by, or nothing at all."""
    module = f'    config: config["first"]\n    pathvars:\n        {name}="elsewhere",\n'
    (caller / "Snakefile").write_text(CALLER.replace('    config: config["first"]\n', module))
    refused = snakemake(caller, "--cores", "1", "--dry-run")
    assert refused.returncode == 1
    assert f"pathvars: found {name}, expected none" in refused.stdout, refused.stdout


def test_runs_to_be_compared_with_are_looked_for_below_the_prefix(caller):
    settings = yaml.safe_load((caller / "own.yaml").read_text())
    settings["second"]["compare"] = ["other"]
    (caller / "own.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    command = ("second_compare", "--cores", "1", "--dry-run")
    refused = snakemake(caller, *command)
    assert refused.returncode == 1
    assert "compare[0]: found 'other', and no results/other/leaderboard.json" in refused.stdout
    for path in COMPARED.values():
        (caller / "below/results/other" / path).parent.mkdir(parents=True, exist_ok=True)
        (caller / "below/results/other" / path).touch()
    planned = snakemake(caller, *command)
    assert planned.returncode == 0, planned.stdout
    assert "below/results/second/comparison/comparison.html" in planned.stdout


def test_another_folder_by_directory(tmp_path):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(FIRST))
    (tmp_path / "elsewhere").mkdir()
    planned = snakemake(
        tmp_path, "--snakefile", str(ROOT / "Snakefile"), "--directory", "elsewhere",
        "--configfile", "run.yaml", "--dry-run", "--cores", "1",
    )  # fmt: skip
    assert planned.returncode == 0, planned.stdout
    assert (tmp_path / "elsewhere/results/first/layers.json").is_file()
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_two_modules_run_each_below_its_prefix(caller):
    ran = snakemake(caller, "--cores", "2")
    assert ran.returncode == 0, ran.stdout
    for place, attack in (("results/first", "step"), ("below/results/second", "noise")):
        table = pd.read_csv(caller / place / "verdicts.csv", dtype={"set": str})
        assert set(table["set"]) == {"original", attack}
    again = snakemake(caller, "--cores", "2", "--dry-run")
    assert "Nothing to be done" in again.stdout
