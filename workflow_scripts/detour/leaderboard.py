"""Leaderboard: what a run amounts to as one JSON, so that runs can be compared without their stores."""

import hashlib
import json
import platform
import zipfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from detour import store, strengths, tables
from detour.artefacts import written
from detour.errors import InputError
from detour.metrics import wilson
from detour.options.run import Run
from detour.protocols import ALL
from detour.store import ORIGINAL

FORMAT = 1

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of it: unknown keys are errors, and numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Figure(Section):
    """A share or an area with its 95 % interval; null where there is none."""

    value: Share | None
    low: Share | None
    high: Share | None


class AtRate(Section):
    """What is flagged at the threshold for a false positive rate."""

    fpr: Share = Field(description="rate that the threshold was set for")
    flagged: Figure


class Network(Section):
    """The network whose images are attacked."""

    model: str = Field(description="`classifier.model` of the configuration")
    weights: str = Field(description="`classifier.weights` of the configuration")
    digest: str = Field(description="of the values of its weights: equal for the same network")


class Dataset(Section):
    """The images."""

    name: str = Field(description="`dataset.name` of the configuration")
    reference: str = Field(description="`dataset.reference`; empty where it is no path")
    test: str = Field(description="`dataset.test`; empty where it is no path")
    classes: int
    images: int = Field(description="test images")
    digest: str = Field(description="of the pixels of the test images, in any order")


class Changed(Section):
    """A set of changed images: an attack's or a control's."""

    name: str
    method: str
    accuracy: Share = Field(description="share of its images that are classified right")
    linf: int = Field(description="largest change of a pixel, of 255")
    l2: float = Field(description="mean L2 norm of an image's change, in pixels of 255")


class Attack(Changed):
    """An attack, and what it did."""

    eps: float | None = Field(description="budget in pixels of 255; null: any")
    norm: Literal["linf", "l2", "l1"] = Field(description="norm of the budget")
    of: str = Field(description="name of the weakest of the attacks that differ from it by eps alone, or it")
    successful: Share | None = Field(description="share of the images that were right and are not any more")
    options: dict[str, Any] | None = Field(
        None, description="its entry of the configuration, defaults too; null in early ones"
    )


class Control(Changed):
    """A harmless change, and what it did."""

    strength: str = Field(description="its option and the value, such as `quality 75`; empty: none")


class ByAttack(Section):
    """How one attack is detected."""

    attack: str
    auc: Figure
    detected: list[AtRate]


class Result(Section):
    """How good a detector is under a protocol, on one population of attacked images."""

    protocol: Literal["known", "unknown", "transfer"]
    population: Literal["all", "successful"]
    auc: Figure = Field(description="over all attacks together under `known`, else the mean of the cells")
    worst: Figure = Field(description="AUC of the worst cell")
    worst_cell: str = Field(description="its attack; under `transfer` the known and the tested one")
    detected: list[AtRate] = Field(description="attacked images that are flagged; their mean has no interval")
    attacks: list[ByAttack] = Field(description="by attack; none under `transfer`")


class Alarms(Section):
    """What a detector flags of images that no attacker made."""

    protocol: Literal["known", "unknown"]
    originals: list[AtRate] = Field(description="of the genuine test images, the mean of the cases")
    controls: list[AtRate] = Field(description="of harmless images of the controls, on average")
    worst_control: list[AtRate] = Field(description="the same of the control of which most is flagged")


class Evasion(Section):
    """What an attack on the detector itself comes to, all its folds together."""

    method: str
    eps: int = Field(description="budget in pixels of 255")
    fpr: Share = Field(description="rate that the threshold was set for")
    images: int
    evaded: Figure = Field(description="share that is classified as wanted and not flagged")


class Detector(Section):
    """A detector, and how good it is."""

    name: str
    method: str
    seeds: int = Field(description="trainings of a fold")
    results: list[Result]
    alarms: list[Alarms]
    adaptive: list[Evasion]


class Leaderboard(Section):
    """What a run of Detour amounts to."""

    format: Literal[1] = Field(description="of this file; another number is another form")
    run: str
    network: Network
    dataset: Dataset
    clean_accuracy: Share = Field(description="share of the test images that are classified right")
    attacks: list[Attack]
    controls: list[Control]
    protocols: list[str]
    folds: int = Field(description="K")
    seeds: list[int] = Field(description="of trainings that draw")
    detectors: list[Detector]
    versions: dict[str, str] = Field(description="of the libraries")


def write(
    out: str | Path, *,
    classifier: str | Path, images: str | Path, outcomes: str | Path, metrics: str | Path,
    summary: str | Path, run: Run, adaptive: str | Path | None = None,
) -> None:  # fmt: skip
    """Write the leaderboard of a run.

    Parameters
    ----------
    images
        The store of the original images.
    run
        The options of the run.
    adaptive
        Table of the attacks on detectors, if there are any.
    """
    store.lineage([classifier, images, outcomes, metrics, summary, *([adaptive] if adaptive else [])])
    made = store.read(images)
    done = {row["set"]: row for row in tables.read(outcomes).to_dict("records")}
    evaded = tables.read(adaptive) if adaptive else None
    measured, counted = tables.read(metrics), tables.read(summary)
    about: Any = run.dataset
    places = {key: getattr(about, key, "") for key in ("reference", "test")}
    first = {attack.name: group[0].name for group in strengths.together(run.attacks) for attack in group}
    board = Leaderboard(
        format=FORMAT,
        run=run.run,
        network=Network(
            model=run.classifier.model, weights=run.classifier.weights, digest=weights_digest(classifier)
        ),
        dataset=Dataset(
            name=about.name,
            **{key: place if isinstance(place, str) else "" for key, place in places.items()},
            classes=len(made.attrs["classes"]),
            images=made["images"].shape[0],
            digest=together(digests(images)),
        ),
        clean_accuracy=done[ORIGINAL]["accuracy"],
        attacks=[
            Attack(
                **_changed(attack.name, attack.method, done),
                eps=attack.budget,
                norm=attack.budget_norm,
                of=first.get(attack.name, attack.name),
                successful=_number(done[attack.name]["successful"]),
                options=attack.model_dump(mode="json", exclude={"name", "method", "family"}),
            )
            for attack in run.attacks
        ],
        controls=[
            Control(
                **_changed(control.name, control.method, done),
                strength=f"{key} {getattr(control, key)}" if (key := control.strength) else "",
            )
            for control in run.controls
        ],
        protocols=list(run.protocols),
        folds=run.folds.count,
        seeds=run.seeds,
        detectors=[
            Detector(
                name=entry.name,
                method=entry.method,
                seeds=int(counted["seeds"][counted["detector"] == entry.name].iloc[0]),
                results=_results(counted, measured, entry.name, run),
                alarms=_alarms(counted, measured, entry.name, run),
                adaptive=_evasions(evaded, entry.name, run.adaptive.fpr),
            )
            for entry in run.detectors
        ],
        versions=dict(made.attrs["versions"]) | {"python": platform.python_version()},
    )
    with written(out) as part:
        part.write_text(board.model_dump_json(indent=1) + "\n", "utf-8")


def read(path: str | Path) -> Leaderboard:
    """The leaderboard at `path`.

    Raises
    ------
    InputError
        If it is none, or of another format.
    """
    text = Path(path).read_text("utf-8")
    try:
        found = json.loads(text)
        version = found.get("format") if isinstance(found, dict) else None
        if version != FORMAT:
            raise InputError(
                f"{path}: format: found {version!r}, expected {FORMAT}; read it with the release of Detour"
                " that wrote it, or run again"
            )
        return Leaderboard.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: {where}: {first['msg']}; expected what schemas/leaderboard.schema.json says; delete it"
            " and run again"
        ) from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is no JSON ({error}); delete it and run again") from None


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of a leaderboard."""
    return {"$schema": GenerateJsonSchema.schema_dialect, **Leaderboard.model_json_schema()}


def digests(images: str | Path) -> list[str]:
    """Digest of the pixels of each test image, by source; of copies, those after the first are numbered.

    Parameters
    ----------
    images
        The store of the original images.
    """
    found = store.read(images)["images"]
    seen: Counter[str] = Counter()
    names = []
    for start in range(0, found.shape[0], found.chunks[0]):
        for pixels in found[start : start + found.chunks[0]]:
            name = hashlib.blake2b(f"{pixels.shape}".encode() + pixels.tobytes(), digest_size=16).hexdigest()
            names.append(f"{name}-{seen[name]}")
            seen[name] += 1
    return names


def together(names: list[str]) -> str:
    """Digest of the digests of images, in any order."""
    return hashlib.blake2b("\n".join(sorted(names)).encode(), digest_size=16).hexdigest()


def weights_digest(classifier: str | Path) -> str:
    """Digest of the values of a stored classifier, without what made it.

    Its zip has a file for the values of each tensor, whose CRCs are compared as a store's are.
    """
    with store.damaged(classifier), zipfile.ZipFile(classifier) as zipped:
        values = [(i.filename, i.CRC, i.file_size) for i in zipped.infolist() if "/data/" in i.filename]
    return hashlib.sha256(repr(sorted(values)).encode()).hexdigest()[:16]


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def _figure(rows: pd.DataFrame) -> Figure:
    """The mean of rows; with its interval if it is one."""
    ends = [_number(rows[name].iloc[0]) if len(rows) == 1 else None for name in ("low", "high")]
    value = _number(rows["value"].mean()) if len(rows) else None
    low, high = ends if value is not None else (None, None)
    return Figure(value=value, low=low, high=high)


def _changed(name: str, method: str, done: dict[str, Any]) -> dict[str, Any]:
    of = done[name]
    return {"name": name, "method": method} | {key: of[key] for key in ("accuracy", "linf", "l2")}


def _at(rows: pd.DataFrame, measure: str, rates: list[float]) -> list[AtRate]:
    """One for each rate that has rows."""
    found = {rate: rows[rows["measure"] == f"{measure}@{rate}"] for rate in rates}
    return [AtRate(fpr=rate, flagged=_figure(of)) for rate, of in found.items() if len(of)]


def _results(summary: pd.DataFrame, metrics: pd.DataFrame, name: str, run: Run) -> list[Result]:
    found = []
    areas = summary[(summary["detector"] == name) & summary["measure"].isin(["auc", "worst"])]
    for (protocol, population), rows in areas.groupby(["protocol", "population"], sort=False):
        cells = metrics[
            (metrics["detector"] == name) & (metrics["protocol"] == protocol)
            & (metrics["population"] == population) & (metrics["originals"] == ALL)
        ]  # fmt: skip
        worst = rows[rows["measure"] == "worst"]
        pooled = cells[cells["attack"] == ALL]
        alone = cells[cells["attack"].isin([attack.name for attack in run.attacks])]
        found.append(
            Result(
                protocol=protocol,
                population=population,
                auc=_figure(rows[rows["measure"] == "auc"]),
                worst=_figure(worst),
                worst_cell=worst["cell"].iloc[0],
                detected=_at(pooled if len(pooled) else alone, "tpr", run.metrics.fpr),
                attacks=[
                    ByAttack(
                        attack=attack,
                        auc=_figure(of[of["measure"] == "auc"]),
                        detected=_at(of, "tpr", run.metrics.fpr),
                    )
                    for attack, of in alone.groupby("attack", sort=False)
                    if protocol != "transfer"
                ],
            )
        )
    return found


def _alarms(summary: pd.DataFrame, metrics: pd.DataFrame, name: str, run: Run) -> list[Alarms]:
    originals = metrics[
        (metrics["detector"] == name) & (metrics["attack"] == ORIGINAL) & (metrics["originals"] == ALL)
    ]
    harmless = summary[(summary["detector"] == name) & (summary["population"] == "harmless")]
    return [
        Alarms(
            protocol=protocol,
            originals=_at(originals[originals["protocol"] == protocol], "fpr", run.metrics.fpr),
            controls=_at(harmless[harmless["protocol"] == protocol], "controls", run.metrics.fpr),
            worst_control=_at(harmless[harmless["protocol"] == protocol], "worst_control", run.metrics.fpr),
        )
        for protocol in run.protocols
        if protocol != "transfer"
    ]


def _evasions(evaded: pd.DataFrame | None, name: str, fpr: float) -> list[Evasion]:
    if evaded is None:
        return []
    found = []
    for (method, eps), rows in evaded[evaded["detector"] == name].groupby(["method", "eps"], sort=False):
        count, images = int(rows["evaded"].sum()), int(np.sum(rows["images"]))
        low, high = wilson(count, images)
        figure = Figure(value=count / images, low=low, high=high)
        found.append(Evasion(method=method, eps=int(eps), fpr=fpr, images=images, evaded=figure))
    return found
