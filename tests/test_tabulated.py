"""Tables of results: every number of the metrics in its place, whatever the names look like."""

import numpy as np
import pandas as pd
import pytest

from detour import tabulated
from detour.metrics import FEW, ORIGINALS
from detour.options.attacks import METHODS
from detour.tabulated import Cell

DETECTORS = ["NA", "16"]
ATTACKS = ["null", "08"]


@pytest.fixture
def metrics(rng) -> pd.DataFrame:
    """Of two attacks, all known, and each learned alone; every value is another."""
    cells = [
        ("known", "all", attack, originals, population, measure)
        for attack in ("all", *ATTACKS) for originals in ORIGINALS for population in ("all", "successful")
        for measure in ("auc", "partial_auc", "tpr@0.05", "precision@0.05")
    ]  # fmt: skip
    cells += [("known", "all", "original", "all", "all", "fpr@0.05")]
    cells += [("transfer", case, attack, "all", "all", "auc") for case in ATTACKS for attack in ATTACKS]
    columns = ["detector", "protocol", "case", "attack", "originals", "population", "measure"]
    rows = pd.DataFrame([(name, *cell) for name in DETECTORS for cell in cells], columns=columns)
    value = rng.permutation(np.linspace(0.1, 0.9, len(rows)))
    return rows.assign(value=value, low=value - 0.1, high=value + 0.05, std=0.01, images=FEW)


def value(metrics: pd.DataFrame, detector: str, **where: str) -> float:
    """The one value of a detector there."""
    (row,) = metrics.query(
        " and ".join(f"{name} == {of!r}" for name, of in {"detector": detector, **where}.items())
    ).itertuples()
    return row.value


def test_every_attack_and_detector_has_its_value_and_interval(metrics):
    table = tabulated.by_attack(metrics, "known")
    assert table.columns == ["AUC, known", "all", *ATTACKS]
    assert [row[0] for row in table.rows] == DETECTORS
    for name, *cells in table.rows:
        for attack, cell in zip(table.columns[1:], cells, strict=True):
            where = {"attack": attack, "originals": "all", "population": "all", "protocol": "known"}
            found = value(metrics, name, measure="auc", **where)
            assert str(cell) == f"{found:.3f} [{found - 0.1:.3f}, {found + 0.05:.3f}]"
    assert tabulated.by_attack(metrics, "unknown").rows == []


def test_of_transfer_rows_are_what_was_trained_on(metrics):
    table = tabulated.transfer(metrics, "16")
    assert table.columns == ["16 trained on", *ATTACKS]
    for case, *cells in table.rows:
        found = [value(metrics, "16", protocol="transfer", case=case, attack=attack) for attack in ATTACKS]
        assert [cell.value for cell in cells] == [f"{auc:.3f}" for auc in found]


def test_below_a_population_is_that_of_the_originals_that_are_right(metrics):
    table = tabulated.populations(metrics)
    for name, *cells in table.rows:
        for population, cell in zip(table.columns[1:], cells, strict=True):
            where = {"attack": "all", "population": population, "protocol": "known", "measure": "auc"}
            assert cell.value == f"{value(metrics, name, originals='all', **where):.3f}"
            (below,) = cell.notes
            assert below.value == f"{value(metrics, name, originals='right', **where):.3f}"


def test_a_precision_is_at_least_its_lower_end_where_no_false_positive_was_seen(metrics):
    seen = metrics["measure"].eq("fpr@0.05") & metrics["detector"].eq("16")
    table = tabulated.operating(metrics.assign(value=metrics["value"].mask(seen, 0)), 0.05, ["08"], "precise")
    assert table.columns[:2] == ["known, threshold for 5%", "false positives"]
    assert table.columns[4:] == ["08 flagged (control)", "mean below 5 %", "precise"]
    whole, quiet = (row[-1] for row in table.rows)
    assert whole.low
    assert not whole.notes
    assert quiet.value.startswith("at least ")
    assert quiet.notes == ("no false positive was seen",)
    # Of what is no precision, the deviation over folds.
    assert table.rows[0][1].notes == ("\N{PLUS-MINUS SIGN} 1.0",)


@pytest.mark.parametrize(("images", "notes"), [(FEW, ()), (FEW - 1, (f"n = {FEW - 1}",))])
def test_few_images_are_counted_below_and_what_is_nothing_has_no_value(images, notes):
    row = {"value": 0.5, "low": 0.4, "high": 0.6, "images": images}
    assert tabulated.cell(row, tabulated.AREA) == Cell("0.500", "0.400", "0.600", notes)
    assert str(tabulated.cell(row | {"value": np.nan}, tabulated.AREA)) == "none"


def test_what_differs_in_less_than_float32_is_told_of_such_runs_alone():
    attack = METHODS["noise"](name="08", method="noise", eps=8)
    judged = pd.DataFrame({
        "set": ["original", "08"], "accuracy": [0.9, 0.5], "target_hits": [np.nan, 0.25],
        "successful": [np.nan, 0.4], "linf": [0, 8], "l2": [0.0, 99.6], "differs": [np.nan, 0.125],
    })  # fmt: skip
    table = tabulated.outcomes(judged, [attack], "float32")
    assert [str(cell) for cell in table.rows[0]] == ["original", "", "", "90.0%", "none", "none", "0", "0"]
    assert [str(cell) for cell in table.rows[1]] == [
        "08",
        "noise",
        "8",
        "50.0%",
        "25.0%",
        "40.0%",
        "8",
        "100",
    ]
    library = METHODS["torchattacks"](name="08", method="torchattacks", attack="CW")
    assert [str(cell) for cell in tabulated.outcomes(judged, [library], "float32").rows[1][:3]] == [
        "08", "torchattacks CW", "none",
    ]  # fmt: skip
    lower = tabulated.outcomes(judged, [attack], "bfloat16")
    assert lower.columns[-1] == "otherwise in bfloat16"
    assert [str(row[-1]) for row in lower.rows] == ["none", "12.5%"]
