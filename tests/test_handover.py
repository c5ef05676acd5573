"""What the rules take from the plan, and the environment that every start sets for its jobs."""

import copy
import json
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT, SMALL
from detour import config, console, handover
from detour.handover import Handover
from detour.plan import Plan

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('ab{}"\\\n')
SETTINGS = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text('ab{}"\\'), inner), max_leaves=10
)


def sections(settings) -> int:
    """How many dictionaries there are."""
    inner = (
        settings.values() if isinstance(settings, dict) else settings if isinstance(settings, list) else ()
    )
    return isinstance(settings, dict) + sum(map(sections, inner))


@given(SETTINGS)
def test_text_is_the_settings_and_has_no_braces_but_of_its_sections(settings):
    written = handover.text(settings)
    assert json.loads(written) == settings
    assert written.count("{") == written.count("}") == sections(settings)


@pytest.fixture
def small() -> Handover:
    settings = copy.deepcopy(SMALL)
    settings["detectors"].append({"name": "every", "method": "fisher_mlp"})
    run = config.load(settings)
    contents = {"test": "", "reference": [], "weights": "", "leaked": [], "copied": []}
    return Handover(Plan(run, run.classifier.layers, contents), ROOT / "workflow_scripts")


def test_jobs_of_a_stage_are_those_of_the_plan_by_their_wildcards(small):
    name = SMALL["detectors"][0]["name"]
    wildcards = {"detector": name, "seed": "0", "fold": "1"}
    job = small.plan.train(name, 0, 1)
    assert small.reads("train")(wildcards) == job.reads
    assert json.loads(small.told("train")(wildcards)) == job.told
    assert small.runs("train")(wildcards) != small.runs("evaluate")(wildcards)
    other = json.loads(small.told("train")(wildcards | {"fold": "0"}))
    assert (job.told["fold"], other["fold"]) == (1, 0)


def test_a_job_runs_something_else_when_it_reads_in_another_order(small):
    """Snakemake sorts what a job reads: the first detector is what the others are compared with."""

    def handed(detectors: list) -> Handover:
        run = config.load(SMALL | {"detectors": detectors})
        return Handover(Plan(run, run.classifier.layers, small.plan.contents), small.scripts)

    one, again, other = (handed(SMALL["detectors"][::step]) for step in (1, 1, -1))
    read, read_other = (sorted(of.reads("summary")({})["evaluated"]) for of in (one, other))
    assert read == read_other
    assert one.runs("summary")({}) == again.runs("summary")({}) != other.runs("summary")({})
    assert one.runs("verdict")({}) == other.runs("verdict")({})


def test_a_job_that_is_tried_again_gets_more_and_one_of_the_joint_gaussian_more_from_the_start(small):
    assert [handover.growing(1500)({}, attempt) for attempt in (1, 2, 3)] == [1500, 3000, 4500]
    plain, joint = ({"detector": name} for name in (SMALL["detectors"][0]["name"], "every"))
    assert small.fitting(plain, 1) < small.fitting(joint, 1)
    assert small.fitting(joint, 2) == 2 * small.fitting(joint, 1)
    of = small.of_joint(60, 20)
    (name,) = small.plan.joints
    assert of({"layer": name}, 2) == 120
    assert of({"layer": small.plan.layers[0]}, 2) == 40


def test_jobs_import_this_library_and_wait_without_spinning(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    console.prepare(tmp_path)
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(tmp_path), "/elsewhere"]
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    console.prepare(tmp_path)
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_python_that_no_job_can_be_started_with_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "/a b/python")
    with pytest.raises(ValueError, match=r"Python is at /a b/python, .*; make the environment \(\.venv\)"):
        console.prepare(tmp_path)
