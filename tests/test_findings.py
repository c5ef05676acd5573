"""The two sentences at the top of the report are made of the numbers."""

import copy
import re

import pandas as pd
import pytest

from conftest import SMALL
from detour import config, findings
from detour.metrics import wilson


def run_of(**changed):
    return config.load(copy.deepcopy(SMALL) | changed)


def tables(low=0.82, worst_low=0.52):
    common = {"detector": "lstm", "population": "all"}
    summary = pd.DataFrame([
        common | {"protocol": "known", "measure": "auc", "cell": "all", "value": 0.87, "low": low, "high": 0.91},
        common | {"protocol": "known", "measure": "worst", "cell": "step", "value": 0.8, "low": 0.7, "high": 0.9},
        common | {"protocol": "unknown", "measure": "auc", "cell": "mean", "value": 0.7, "low": 0.6, "high": 0.8},
        common | {"protocol": "unknown", "measure": "worst", "cell": "noise", "value": 0.6, "low": worst_low, "high": 0.68},
        common | {"detector": "knn", "protocol": "known", "measure": "auc", "cell": "all", "value": 1, "low": 1, "high": 1},
    ])  # fmt: skip
    known = {"detector": "lstm", "protocol": "known", "originals": "all"}
    metrics = pd.DataFrame([
        known | {"measure": f"{kind}@{rate}", "attack": attack, "population": population, "value": value, "low": value - 0.04, "high": value + 0.04}
        for rate, caught, alarms in ((0.05, 0.81, 0.06), (0.01, float("nan"), float("nan")))
        for kind, attack, population, value in (
            ("fpr", "original", "all", alarms), ("tpr", "all", "all", 0.5), ("tpr", "all", "successful", caught),
        )
    ])  # fmt: skip
    return summary, metrics


def evaded(rows):
    return pd.DataFrame(rows, columns=["detector", "method", "fold", "eps", "images", "evaded"])


def test_they_say_what_was_found_and_where_it_ends():
    known = evaded([
        ("lstm", "pgd", 0, 0, 20, 0), ("lstm", "pgd", 0, 32, 20, 10), ("lstm", "pgd", 1, 32, 20, 11),
        ("lstm", "selective", 0, 32, 50, 46), ("lstm", "selective", 0, 255, 50, 50),
        ("knn", "pgd", 0, 32, 20, 20),
    ])  # fmt: skip
    first, second = findings.sentences(*tables(), known, run_of())
    assert first == (
        "lstm tells attacked images from genuine ones: of 100 pairs of one and the other it ranks 87 (82 to 91)"
        " rightly, where guessing ranks 50; at the threshold for 5 % false alarms it flags 81 (77 to 85) of 100"
        " attacked images that fool the network, and 6 (2 to 10) of 100 genuine ones."
    )
    low, high = (round(100 * end) for end in wilson(46, 50))
    # At the strength of the run's own attacks, 32, and not at 255, where every image is in reach.
    assert second == (
        "Against attacks of families that it was not trained on, it ranks 60 (52 to 68) of 100 rightly in the"
        f" worst case, noise; an attacker who knows it evades it in 92 ({low} to {high}) of 100 cases with"
        " changes of at most 32 of 255 (50 images, selective)."
    )


def test_what_is_not_shown_is_not_claimed():
    first, second = findings.sentences(*tables(low=0.49, worst_low=0.45), None, run_of())
    assert first.startswith("lstm is not shown to tell attacked images from genuine ones: ")
    assert "noise, which may be guessing; no attacker who knows lstm was tried in this run." in second


def test_without_a_threshold_nothing_is_said_to_be_flagged():
    summary, metrics = tables()
    first, _ = findings.sentences(summary, metrics.assign(value=float("nan")), None, run_of())
    assert first.endswith("where guessing ranks 50.")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("lstm", "pgd", 0, 0, 9, 0)], "no attacker who knows lstm was tried"),
        ([("lstm", "pgd", 0, 64, 9, 9)], r"in 100 \(70 to 100\) of 100 cases with changes of at most 64 of 255 \(9 images, pgd\)\."),
        ([("lstm", "pgd", 0, 16, 1, 0)], r"in 0 \(0 to 79\) of 100 .* \(1 image, pgd\), and a stronger one may\."),
    ],
)  # fmt: skip
def test_what_an_attacker_who_knows_it_achieves(rows, said):
    _, second = findings.sentences(*tables(), evaded(rows), run_of())
    assert re.search(said, second)
