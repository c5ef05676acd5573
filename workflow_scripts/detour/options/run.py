"""Run: the whole configuration, section by section."""

from functools import reduce
from math import isfinite
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints

from detour.options import attacks, controls, datasets, detectors
from detour.options.adaptive import Adaptive
from detour.options.attacks import Attack
from detour.options.base import Names, Number, Options, Seed, Text, Unique, either, said, unexpected
from detour.options.classifier import Classifier
from detour.options.controls import Control
from detour.options.datasets import Dataset
from detour.options.detectors import Detector

if TYPE_CHECKING:
    AnyAttack: TypeAlias = Attack
    AnyControl: TypeAlias = Control
    AnyDataset: TypeAlias = Dataset
    AnyDetector: TypeAlias = Detector
else:
    AnyAttack = either(reduce(or_, attacks.METHODS.values()), attacks.Outside)
    AnyControl = either(reduce(or_, controls.METHODS.values()), controls.Outside)
    AnyDataset = either(reduce(or_, datasets.DATASETS.values()), datasets.Outside, "name")
    AnyDetector = either(reduce(or_, detectors.METHODS.values()), detectors.Outside)

Share = Annotated[Number, Field(ge=1e-6, lt=1)]
# The name of its folder.
RunName = Annotated[
    str,
    StringConstraints(max_length=100, pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$"),
    said("letters, digits and some of - _ ., a letter or digit first"),
]


class Folds(Options):
    """How the test images are dealt."""

    count: int = Field(
        5,
        ge=2,
        le=10_000,
        description="K: the test images are dealt into 2K groups; fold k tests on group 2k, validates on 2k"
        " + 1 and trains on the others",
    )
    stratify: Literal["class", "none"] = Field(
        "class",
        description="`class`: every group has the classes in equal shares, which needs 2K test images of each"
        " class; `none`: images are dealt at random",
    )


class Metrics(Options):
    """What the scores are taken together to."""

    draws: int = Field(
        2000, ge=100, le=100_000, description="bootstrap samples of the source images, for the intervals"
    )
    fpr: Annotated[list[Share], *Unique] = Field(
        [0.01, 0.05],
        description="false positive rates that thresholds are set for, on the genuine images of the"
        " validation; rate a needs 1 / a - 1 of them",
    )
    base_rate: Number = Field(
        0.001,
        ge=1e-9,
        lt=1,
        description="share of adversarial images that the precision is told for",
    )


class Figures(Options):
    """What the figures show."""

    attack: Annotated[Text | None, said("the name of an attack, or null")] = Field(
        None,
        description="the attack that the t-SNE, path and sample figures show; null: the one that hits its"
        " target most often",
    )
    detectors: Names | None = Field(
        None, description="detectors whose ROC and transfer the figures show; null: the first six"
    )
    tsne_images: int = Field(
        150, ge=5, le=10_000, description="reference images of each of the three classes in the t-SNE"
    )
    samples: int = Field(5, ge=1, le=12, description="images shown with their perturbations")


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Of a function whose own types are not known: what YAML has, and NaN nowhere."""
    for name, value in options.items():
        if not name.isidentifier():
            raise unexpected(f"names of arguments, and {name!r} is none")
        # YAML reads 01:00:00 as a number of seconds.
        if name == "walltime" and not isinstance(value, str):
            raise unexpected("text; write it in quotes", at=name)
        for entry in value if isinstance(value, list) else [value]:
            plain = isinstance(entry, str | int | float) or (entry is None and entry is value)
            if not plain or (isinstance(entry, float) and not isfinite(entry)):
                raise unexpected("text, a finite number, true, false or null, or a list of them", at=name)
    return options


SCHEDULERS = ["threads", "processes", "slurm", "tcp://host:port"]


class Dask(Options):
    """What computes medoids, Gaussians, distances and nearest neighbours."""

    scheduler: Annotated[
        str,
        StringConstraints(pattern=r"^(threads|processes|slurm|(tcp|tls)://[^/\s]+:[0-9]+)$"),
        said("one of them", SCHEDULERS),
    ] = Field(
        "threads",
        description="what computes medoids, Gaussians, distances and nearest neighbours: `threads` or"
        " `processes` of the job, the workers of a Dask scheduler at `tcp://host:port`, or workers asked of"
        " `slurm`; the results are the same bytes, so a change reruns nothing",
    )
    workers: int = Field(2, ge=1, le=10_000, description="for `slurm`: jobs of workers that are asked for")
    options: Annotated[dict[str, Any], AfterValidator(_arguments)] = Field(
        {},
        description="for `slurm`: arguments of `dask_jobqueue.SLURMCluster` (`queue`, `account`, `cores`,"
        " `memory`, `walltime`, `interface`, ...); what is left out comes from dask-jobqueue's own"
        " configuration",
    )


class Run(Options):
    """Detour's configuration."""

    run: RunName = Field(description="name of the run; its files are under `results/{run}/`")
    seed: Seed = Field(0, description="seed of every draw")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where networks run; `auto` is CUDA where there is one"
    )
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = Field(
        "float32",
        description="what attacks and the reference are computed in: `float32`, `tf32` (tensor cores of a"
        " GPU), `bfloat16` or `float16`; the test images are always judged in float32",
    )
    batch_size: int = Field(
        100,
        ge=1,
        le=65536,
        description="images per batch in attacks and extraction; it changes floats in the last place and, by"
        " them, some bytes of an iterated attack, so it is fixed here",
    )
    threads: int = Field(
        1,
        ge=1,
        le=1024,
        description="threads of PyTorch in a job of the classifier, attacks or extraction, whatever"
        " `--cores`; their number changes floats in the last place, so it is fixed here",
    )
    dataset: AnyDataset
    classifier: Classifier
    attacks: Annotated[list[AnyAttack], Field(min_length=1)]
    controls: list[AnyControl] = Field(
        [],
        description="genuine images that something harmless changed: negatives, of which the report says how"
        " many are flagged",
    )
    folds: Folds = Field(default_factory=Folds)
    protocols: Annotated[list[Literal["known", "unknown", "transfer"]], *Unique] = Field(
        ["known"],
        description="which attacks a detector knows in training: `known`: all (the paper's); `unknown`: all"
        " but those of the family of the one in the test, each in turn; `transfer`: one, each in turn, tested"
        " on all",
    )
    seeds: Annotated[list[Seed], *Unique] = Field(
        [0],
        description="seeds of what detectors draw when they are trained; several show how much of a"
        " difference is luck",
    )
    metrics: Metrics = Field(default_factory=Metrics)
    detectors: Annotated[list[AnyDetector], Field(min_length=1)]
    adaptive: Adaptive = Field(default_factory=Adaptive)
    figures: Figures = Field(default_factory=Figures)
    compare: Annotated[list[RunName], Unique[0], Field(json_schema_extra={"uniqueItems": True})] = Field(
        [],
        description="names of other finished runs, which `snakemake compare` puts beside this one, in"
        " `results/{run}/comparison/`; a change makes nothing else again",
    )
    dask: Dask = Field(default_factory=Dask)
