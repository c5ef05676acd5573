"""Handover: what rules of Snakemake take from a plan, as functions of wildcards."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from detour import code
from detour.identity import asked
from detour.plan import Job, Plan

Wildcards = Mapping[str, str]
Resource = Callable[[Wildcards, int], int]

# Wildcards that are numbers.
NUMBERS = ("shard", "seed", "fold")

# Scripts whose artefacts say nothing of the run that they are of, so that runs can share them.
SHARED = (
    "classifier.py", "image.py", "attack.py", "control.py", "activation.py", "reference_activation.py",
    "medoid.py", "gaussian.py", "distance.py", "neighbour.py", "squeeze.py", "preprocess.py", "train.py",
)  # fmt: skip


class Handover:
    """What a plan says of the job of a stage.

    Parameters
    ----------
    scripts
        Folder of the scripts of the rules.
    """

    def __init__(self, plan: Plan, scripts: Path) -> None:
        self.plan, self.scripts = plan, scripts
        # Snakemake asks of a job what it reads, what it is told and what it runs.
        self._planned: dict[tuple[str, ...], Job] = {}

    def _job(self, stage: str, wildcards: Wildcards) -> Job:
        named = dict(wildcards.items())
        key = (stage, *named.values())
        if key not in self._planned:
            values = (int(value) if name in NUMBERS else value for name, value in named.items())
            self._planned[key] = getattr(self.plan, stage)(*values)
        return self._planned[key]

    def reads(self, stage: str) -> Callable[[Wildcards], dict[str, Any]]:
        """What it reads."""
        return lambda wildcards: self._job(stage, wildcards).reads

    def told(self, stage: str) -> Callable[[Wildcards], str]:
        """What it is told, as one string: Snakemake forgets the names of params."""
        return lambda wildcards: text(self._job(stage, wildcards).told)

    def runs(self, stage: str) -> Callable[[Wildcards], str]:
        """Which code it runs, and in which order it reads: Snakemake looks for a change of what is sorted."""

        def digest(wildcards: Wildcards) -> str:
            job = self._job(stage, wildcards)
            return f"{code.meaning(self.scripts / job.script, *job.methods)} {asked(job.reads)}"

        return digest

    # Snakemake does not compare params of functions that take `input`, so that these two rerun nothing.

    def expected(self, wildcards: Wildcards, input: Iterable[str]) -> str:
        """What its artefacts are to have been made with."""
        return text(self.plan.expected(input))

    def dask(self, wildcards: Wildcards, input: Iterable[str]) -> str:
        """How it computes medoids, Gaussians, distances and neighbours, which changes no byte of them."""
        return text(self.plan.run.dask.model_dump())

    def fitting(self, wildcards: Wildcards, attempt: int) -> int:
        """Memory of a training: what reads the joint Gaussian holds a square of all layers' widths."""
        joint = "joint" in self.plan.detectors[wildcards["detector"]].reads
        return (4000 if joint else 2500) * attempt

    def of_joint(self, joint: int, layer: int) -> Resource:
        """The joint Gaussian takes memory by the square of all widths together, and time by their cube."""
        return lambda wildcards, attempt: (
            attempt * (joint if wildcards["layer"] in self.plan.joints else layer)
        )


def growing(amount: int) -> Resource:
    """A resource that a job gets more of where it is tried again; docs/clusters.md has what was measured."""
    return lambda wildcards, attempt: amount * attempt


def text(settings: object) -> str:
    """Settings as JSON without braces in its strings.

    Snakemake takes braces around a word for a wildcard, also in the name of a folder.
    """
    return re.sub(
        r'"(?:[^"\\]|\\.)*"',
        lambda string: string[0].replace("{", "\\u007b").replace("}", "\\u007d"),
        json.dumps(settings, sort_keys=True),
    )
