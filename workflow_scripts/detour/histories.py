"""Histories: what a detector's training saw, pass by pass, and whether it learned anything at all."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def guessed_auc(genuine: int, adversarial: int) -> float:
    """The AUC that scores without any meaning stay below with a probability of 98 %.

    Two standard deviations above 1/2; the variance is (n + a + 1) / (12 n a) (Mann and Whitney 1947).
    """
    return 0.5 + 2 * math.sqrt((genuine + adversarial + 1) / (12 * genuine * adversarial))


def guessed_loss(share: float) -> float:
    """The binary cross-entropy, in nats, of one constant answer where that share is adversarial."""
    return -share * math.log(share) - (1 - share) * math.log1p(-share)


def failure(history: Sequence[Row]) -> str:
    """What shows that a training may have learned nothing; empty where it did learn.

    Parameters
    ----------
    history
        Rows with validation_auc and guessed_auc, and for a network loss and guessed_loss.
    """
    auc, guessed = max(float(row["validation_auc"]) for row in history), float(history[0]["guessed_auc"])
    if auc <= guessed:
        return f"its validation AUC is {auc:.2f} at best, and guessing may reach {guessed:.2f}"
    losses = [(_loss(row), float(row["guessed_loss"])) for row in history if _loss(row)]
    if losses and all(loss >= of_guessing for loss, of_guessing in losses):
        return f"its loss never falls below that of guessing, {losses[0][1]:.3f}"
    return ""


def remedy(history: Sequence[Row]) -> str:
    """What to try where a training may have learned nothing."""
    if _loss(history[0]):
        return "try more epochs, a tenth of its lr, or another scale (layer learns where raw does not)"
    return "try another layer, more test images, or another detector"


def _loss(row: Row) -> float:
    """The loss of a row; 0 of what has none."""
    loss = float(row.get("loss") or 0)
    return 0 if math.isnan(loss) else loss


def warnings(rows: Iterable[Row]) -> list[str]:
    """Detectors that may have learned nothing in at least half of their folds and seeds.

    Parameters
    ----------
    rows
        Of the histories of a run.
    """
    cases: dict[tuple[str, ...], dict[tuple[str, ...], list[Row]]] = {}
    for row in rows:
        case, training = (
            tuple(row[name] for name in names)
            for names in (("detector", "protocol", "case"), ("seed", "fold"))
        )
        cases.setdefault(case, {}).setdefault(training, []).append(row)
    found: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    for (detector, protocol, name), trainings in cases.items():
        histories = list(trainings.values())
        failures = [reason for history in histories if (reason := failure(history))]
        if 2 * len(failures) >= len(histories):
            where = f"{protocol} {name} ({len(failures)} of {len(histories)} trainings)"
            found.setdefault(detector, []).append(where)
            first.setdefault(detector, f"{failures[0]}; {remedy(histories[0])}")
    return [
        f"{detector} may have learned nothing: {', '.join(where)}; in the first, {first[detector]}"
        for detector, where in found.items()
    ]
