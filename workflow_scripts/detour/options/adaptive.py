"""Adaptive: options of the attacks on classifier and detector at once."""

from typing import Annotated, Literal

from pydantic import Field

from detour.options.base import Count, Names, Nonnegative, Number, Options, Positive, Unique

Method = Literal["pgd", "selective", "orthogonal", "medoids"]


class Evasion(Options):
    """What an attack on a detector may do, and how it goes."""

    eps: Annotated[list[Annotated[int, Field(ge=0, le=255)]], *Unique] = Field(
        [4, 8, 16, 32, 64, 128, 255],
        description="L-infinity budgets in pixels of 255, each attacked with on its own; at 255, where every"
        " image is in reach, an attack that works has its way with all",
    )
    steps: Count = Field(40, description="number of steps")
    step: Positive = Field(
        2.5, description="size of the first step in units of eps / steps; it shrinks linearly to 0"
    )
    weight: Nonnegative = Field(
        1, description="lambda: of the detection score in `pgd`, of the distances in `medoids`"
    )
    target: Literal["dataset", "random", "none"] = Field(
        "dataset",
        description="class that is wanted: `dataset`, `random`: as for attacks; `none`: any but the true one",
    )
    images: int = Field(
        50,
        ge=1,
        le=1_000_000,
        description="test images of a fold that are attacked, at most, drawn by the seed from those that are"
        " classified right",
    )
    fpr: Number = Field(
        0.05,
        ge=1e-6,
        le=0.5,
        description="false positive rate of the detector, whose threshold is set on the validation originals",
    )


class Attack(Evasion):
    """One attack on one detector."""

    method: Method


class Adaptive(Evasion):
    """Which detectors are attacked, and by which methods."""

    methods: Annotated[list[Method], Unique[0], Field(json_schema_extra={"uniqueItems": True})] = Field(
        [],
        description="attacks on classifier and detector at once, by an attacker who knows both: `pgd` (on"
        " classification loss + weight * detection score), `selective`, `orthogonal` (Bryniarski et al."
        " 2021), `medoids` (matches those of the wanted class); empty: none, and nothing below is used",
    )
    detectors: Names | None = Field(
        None,
        description="names of the detectors, each attacked on its own: of method `lstm`, `mlp`, `logistic`"
        " (on L2 distances to medoids), `fisher` or `fisher_mlp`; null: the first such",
    )
    folds: Annotated[list[Annotated[int, Field(ge=0, le=10_000)]], *Unique] = Field(
        [0], description="folds whose detectors are attacked, each on its test images; from 0"
    )
