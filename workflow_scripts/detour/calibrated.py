"""Calibrated: thresholds of all folds together, for rates that one fold has too few originals for."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from detour.metrics import CONTROLS, SHOWN, precision, threshold, wilson
from detour.protocols import ALL
from detour.store import ORIGINAL


def lacking(metrics: pd.DataFrame, rates: Sequence[float]) -> list[float]:
    """Rates that folds have no thresholds for."""
    known = metrics[(metrics["protocol"] == "known") & metrics["value"].notna()]
    return [rate for rate in rates if not (known["measure"] == f"fpr@{rate}").any()]


def flagged(
    scores: pd.DataFrame, verdicts: pd.DataFrame, rates: Sequence[float], base_rate: float
) -> pd.DataFrame:
    """What detectors that know every attack flag at thresholds that are set on all folds together.

    As the p-value of a bundle, these compare scores of different folds' detectors, each of images that it was
    not trained on. They are set on the validation originals of all folds and counted on the test images, of
    which no fold has one in its validation that another has in its test. The promise of `threshold` holds as
    far as the folds' scores are alike; the `fpr@a` that is counted tells how far.

    Parameters
    ----------
    scores, verdicts
        As of `detour.metrics.evaluate`.
    rates
        Wanted false positive rates; those that all folds together have too few originals for have no row.
    base_rate
        Share of adversarial images for the precision.

    Returns
    -------
    DataFrame
        Rows as `detour.metrics.evaluate` has them, of `fpr@a`, `tpr@a` and `precision@a`: shares of all test
        images together, with Wilson's intervals and no deviation over folds.
    """
    known = scores[scores["protocol"] == "known"]
    rows: list[dict[str, Any]] = []
    for (detector, case), part in known.groupby(["detector", "case"], sort=False):
        test = part[part["role"] == "test"].merge(verdicts, on=["set", "source"])
        genuine = part[part["role"] == "validation"].groupby("seed")["score"]
        for rate in rates:
            limits = genuine.agg(lambda found, rate=rate: threshold(found.to_numpy(), rate))
            if np.isfinite(limits).all():
                above = test["score"] > test["seed"].map(limits)
                about = {"detector": detector, "protocol": "known", "case": case, "originals": ALL}
                rows += (about | row for row in _rows(test.assign(above=above), rate, base_rate))
    columns = ["detector", "protocol", "case", "attack", "originals", "population", "measure"]
    return pd.DataFrame(rows, columns=[*columns, "value", "std", "low", "high", "images"])


def _rows(test: pd.DataFrame, rate: float, base_rate: float) -> Iterator[dict[str, Any]]:
    genuine = test["adversarial"] == 0
    of_originals = _share(test[test["set"] == ORIGINAL])
    yield {"attack": ORIGINAL, "population": ALL, "measure": f"fpr@{rate}"} | of_originals
    for name in test["set"][genuine & (test["set"] != ORIGINAL)].unique():
        changed = test[test["set"] == name]
        for population, column in CONTROLS.items():
            counted = changed[changed[column]] if column else changed
            yield {"attack": name, "population": population, "measure": f"fpr@{rate}"} | _share(counted)
    attacked = test[~genuine]
    names = list(attacked["set"].unique())
    for name in [*([ALL] if len(names) > 1 else []), *names]:
        of_attack = attacked if name == ALL else attacked[attacked["set"] == name]
        for population in SHOWN:
            counted = of_attack if population == ALL else of_attack[of_attack[population]]
            found = _share(counted)
            yield {"attack": name, "population": population, "measure": f"tpr@{rate}"} | found
            ends = {
                key: precision(np.array([found[key]]), np.array([of_originals[other]]), base_rate)[0]
                for key, other in (("value", "value"), ("low", "high"), ("high", "low"))
            }
            yield {"attack": name, "population": population, "measure": f"precision@{rate}"} | found | ends


def _share(rows: pd.DataFrame) -> dict[str, Any]:
    """The share that is above, with Wilson's interval over images: one and all its versions are one."""
    images = rows["source"].nunique()
    if not images:
        return dict.fromkeys(("value", "std", "low", "high"), np.nan) | {"images": 0}
    value = rows["above"].mean()
    low, high = wilson(round(value * images), images)
    return {"value": value, "std": np.nan, "low": low, "high": high, "images": images}
