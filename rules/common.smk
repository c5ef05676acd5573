import gc
import json
import os
import re
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Snakemake keeps nearly all that it makes: with thousands of jobs, looking for garbage took a fifth of its time.
gc.set_threshold(100_000)

SCRIPTS = Path(workflow.basedir, "workflow_scripts")
sys.path.insert(0, str(SCRIPTS))
# Use this checkout's library: the code digest covers only it.
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [str(SCRIPTS), os.getenv("PYTHONPATH")]))
)
# What a shell takes for more than a part of a word: Snakemake calls scripts by an unquoted path (snakemake#2645).
if re.search(r"[\s\"'\\$&;|<>()*?\[\]`#!{}~]", sys.executable):
    raise WorkflowError(
        f"Python is at {sys.executable}, and Snakemake starts jobs by a command line that such a path breaks; make"
        " the environment (.venv) in a folder whose path has no spaces nor quotes, or call it by a link that has none"
    )
# Threads of several jobs on the same cores are not to spin while they wait for each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from detour import code, console
from detour.plan import REPRESENTATIVES, artefact, csv

try:
    PLAN = console.planned(
        config,
        workflow.configfiles,
        first=workflow.is_main_process,
        say=logger.info,
    )
except (ValueError, OSError) as error:
    raise WorkflowError(error) from None


pathvars:
    run=f"results/{PLAN.run.run}",


NUMBERS = ("shard", "seed", "fold")


@cache
def job_of(stage, which):
    return getattr(PLAN, stage)(
        *[int(value) if name in NUMBERS else value for name, value in which]
    )


def planned(stage, wildcards):
    return job_of(stage, tuple(wildcards.items()))


def reads(stage):
    """What a job of that stage reads, by its wildcards."""
    return unpack(lambda wildcards: planned(stage, wildcards).reads)


def told(stage):
    """What it is told, as one string: Snakemake forgets the names of params."""
    return lambda wildcards: text(planned(stage, wildcards).told)


def runs(stage):
    """Which code it runs."""

    def digest_of(wildcards):
        job = planned(stage, wildcards)
        return code.meaning(SCRIPTS / job.script, *job.methods)

    return digest_of


def text(settings):
    # Snakemake takes braces around a word for a wildcard, also in the name of a folder.
    return re.sub(
        r'"(?:[^"\\]|\\.)*"',
        lambda m: m[0].replace("{", "\\u007b").replace("}", "\\u007d"),
        json.dumps(settings, sort_keys=True),
    )


# A function of `input`, so that it reruns nothing: Snakemake does not compare its value.
def expected(wildcards, input):
    return text(PLAN.expected(input))


GPU = 0 if PLAN.run.device == "cpu" else 1


def growing(amount):
    """A resource that a job gets more of where it is tried again; docs/clusters.md has what was measured."""
    return lambda wildcards, attempt: amount * attempt


def fitting(wildcards, attempt):
    """Memory of a training: what reads the joint Gaussian holds a square of all layers' widths."""
    joint = "joint" in PLAN.detectors[wildcards.detector].reads
    return (4000 if joint else 2500) * attempt


def of_joint(joint, layer):
    """The joint Gaussian takes memory by the square of all widths together, and time by their cube."""
    return lambda wildcards, attempt: attempt * (
        joint if wildcards.layer in PLAN.joints else layer
    )


# What computes medoids, Gaussians, distances and neighbours. It changes no byte of them, so it reruns nothing: Snakemake
# does not compare params of functions that take `input`.
def dask(wildcards, input):
    return text(PLAN.run.dask.model_dump())
