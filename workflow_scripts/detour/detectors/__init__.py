"""Detectors: tell adversarial from genuine images by what the earlier stages say of them."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
import torch

from detour import histories, methods, states, tables
from detour.artefacts import written
from detour.detectors.versions import Run, Versions
from detour.errors import InputError
from detour.folds import sources
from detour.options import detectors as catalogue
from detour.options.detectors import Detector as Options
from detour.protocols import ALL, Case, Families, cases
from detour.seeds import draw
from detour.spelling import quoted
from detour.store import ORIGINAL, Made

logger = logging.getLogger(__name__)


class Detector(Protocol):
    """What a detector is: fitted once, then it scores; higher is more adversarial."""

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        """Learn, and return a history: what was seen after each pass over the training images."""

    def score(self, versions: Versions) -> np.ndarray:
        """float64 [m]"""

    def state(self) -> dict[str, Any]:
        """What `restored` needs: tensors and plain values."""

    def restored(self, state: dict[str, Any]) -> Self:
        """This detector as it was when `state` was taken."""


def detector(options: Options) -> Detector:
    """The untrained detector of that entry of the configuration."""
    return methods.loaded(options.implementation)(options)


def train(
    run: Run, folds: str | Path, model: str | Path, history: str | Path, *,
    options: Options, protocols: Sequence[str], fold: int, seed: int, made: Made,
    families: Families | None = None, controls: Families | None = None, seeded: bool = True,
) -> None:  # fmt: skip
    """Fit the detectors that protocols ask for on a fold, and write their states and histories.

    A history has a row for each pass over the training images, or for each option that was tried: detector,
    protocol, case, seed, fold, what it was, validation_auc, guessed_auc (see `detour.histories`) and, for a
    network, loss and guessed_loss. Where nothing was learned the log warns of it.

    Parameters
    ----------
    options
        The detector's entry in the configuration.
    families
        Of the attacks, for the protocol `unknown`; None: each is its own.
    controls
        Families of the controls that are in training, as genuine images.
    seed
        Of what the detectors draw, in every fold and case something else.
    seeded
        Whether they draw; if not, cases that know the same have the same detector.
    """
    name = options.name
    sourced = {role: sources(folds, fold, role) for role in ("train", "validation")}
    fitted_states: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    # By what is known.
    trained: dict[tuple[str, ...], tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    with written(model) as path:
        of_controls = _families(run, controls or {}, controls)
        for case in cases(
            protocols, _families(run, run.attacks, families), of_controls, genuine=bool(controls)
        ):
            logger.info("%s: knows %s", case, ", ".join([*case.known, *case.genuine]))
            known = (*case.known, *case.genuine)
            if seeded or known not in trained:
                trained[known] = _trained(run, options, sourced, known, seed, fold, case)
            fitted_states[str(case)], passes = trained[known]
            about = {"detector": name, "protocol": case.protocol, "case": case.name}
            images = len(sourced["validation"])
            guessed = histories.guessed_auc((1 + len(case.genuine)) * images, len(case.known) * images)
            found = [{**about, "seed": seed, "fold": fold, **row, "guessed_auc": guessed} for row in passes]
            rows += found
            if reason := histories.failure(found):
                logger.warning(
                    "%s, fold %d, seed %d (%s) may have learned nothing: %s; %s",
                    name, fold, seed, case, reason, histories.remedy(found),
                )  # fmt: skip
        saved = {
            "options": options.model_dump(),
            "states": fitted_states,
            "sources": {role: torch.from_numpy(found) for role, found in sourced.items()},
        }
        states.save(path, model, saved, made, [*run.paths, folds])
    # After the model: a job that has lost it to a later start writes no history beside it.
    tables.write(history, pd.DataFrame(rows), made, [*run.paths, folds])


def _trained(
    run: Run, options: Options, sourced: Mapping[str, np.ndarray], known: Sequence[str],
    seed: int, fold: int, case: Case,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """State and history of a new detector, fitted on the originals and on these versions of them."""
    train, validation = (Versions(run, sourced[role], [ORIGINAL, *known]) for role in ("train", "validation"))
    fitted = detector(options)
    drawn = int(draw(seed, str(case), fold).integers(2**31))
    try:
        passes = _history(fitted.fit(train, validation, seed=drawn))
    except ValueError as error:
        raise InputError(f"detector {options.name!r}, fold {fold}, seed {seed} ({case}): {error}") from error
    return fitted.state(), passes


def _history(passes: Any) -> list[dict[str, Any]]:
    """What `fit` returned, if it is a history."""
    rows = isinstance(passes, list) and all(isinstance(row, dict) for row in passes)
    if not rows or not passes or not all(_is_number(row.get("validation_auc")) for row in passes):
        raise InputError(
            f"fit: found {quoted(passes)}, expected a list with a mapping for each pass over the images, or"
            " each option that was tried, with the number `validation_auc`"
        )
    return passes


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _families(run: Run, names: Collection[str], families: Families | None) -> Families:
    """In the order of the run: what jobs are told is sorted."""
    return {name: (families or {}).get(name, name) for name in run.sets if name in names}


def load(model: str | Path, case: str = f"known {ALL}") -> Detector:
    """A detector as it was trained for a case, by the case's protocol and name."""
    return _restored(states.load(model), case)


def _restored(saved: dict[str, Any], case: str) -> Detector:
    return detector(catalogue.detector(saved["options"])).restored(saved["states"][case])


def scored(fitted: Detector, versions: Versions, what: str) -> np.ndarray:
    """Scores of a detector, float64 [m]: finite, so that each has its place among the others.

    Parameters
    ----------
    what
        The detector, its fold and its case, for the error.

    Raises
    ------
    ValueError
        If a score is not finite, or there are not as many as versions.
    """
    found = fitted.score(versions)
    scores = np.asarray(found)
    if scores.shape != versions.source.shape or scores.dtype.kind not in "biuf":
        raise InputError(
            f"{what}: score: found a {type(found).__name__} of {scores.dtype} {list(scores.shape)}, expected"
            f" an array of numbers {list(versions.source.shape)}, one for each version of an image"
        )
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        first = wrong[0]
        raise InputError(
            f"{what}: {len(wrong)} of {len(scores)} scores are not finite, the first is {scores[first]}, of"
            f" source {versions.source[first]} in {versions.set[first]}; use another `scale` or a smaller"
            " `lr` where it has them, or leave the detector out"
        )
    return scores


def evaluate(
    run: Run, folds: str | Path, model: str | Path, out: str | Path, *,
    name: str, protocols: Sequence[str], seed: int, fold: int, made: Made,
    families: Families | None = None, controls: Families | None = None,
) -> None:  # fmt: skip
    """Score the test images of a fold, and the genuine ones of its validation that thresholds are from.

    The table has detector, protocol, seed, fold, case, role (`test` or `validation`), set, source,
    adversarial (0 or 1; of controls 0) and score.

    Parameters
    ----------
    model
        As `train` wrote it for this fold.

    Raises
    ------
    ValueError
        If the detector was trained or validated on a source of the fold's test, or a score is not finite.
    """
    part = {role: sources(folds, fold, role) for role in ("validation", "test")}
    saved = states.load(model)
    for role, known in saved["sources"].items():
        if len(leaked := np.intersect1d(known.numpy(), part["test"])):
            raise InputError(
                f"{model}: source {leaked[0]} was in {role} and is in the test of fold {fold} of {folds}"
                f" ({len(leaked)} such sources), expected none; delete {model} and run again"
            )
    rows = []
    genuine = saved["options"].get("controls", False)
    of_attacks = _families(run, run.attacks, families)
    of_controls = _families(run, run.controls, controls)
    for case in cases(protocols, of_attacks, of_controls, genuine=genuine):
        fitted = _restored(saved, str(case))
        what = f"detector {name!r}, fold {fold}, seed {seed} ({case})"
        for role, sets in (("validation", [ORIGINAL]), ("test", [ORIGINAL, *case.tested, *case.changed])):
            versions = Versions(run, part[role], sets)
            rows.append(pd.DataFrame({
                "detector": name, "protocol": case.protocol, "seed": seed, "fold": fold,
                "case": case.name, "role": role, "set": versions.set, "source": versions.source,
                "adversarial": versions.adversarial.astype(int), "score": scored(fitted, versions, what),
            }))  # fmt: skip
    tables.write(out, pd.concat(rows, ignore_index=True), made, [*run.paths, folds, model])
