"""Findings: what a run found and where that ends, as two plain sentences made from its numbers."""

import pandas as pd

from detour.metrics import wilson
from detour.options.run import Run
from detour.protocols import ALL
from detour.store import ORIGINAL

# Where the worst cell of a protocol is, the one that says most of the limit first.
WORST = {
    "unknown": "Against attacks of families that it was not trained on",
    "transfer": "Against attacks other than the one it was trained on",
    "known": "Against each attack alone, all of which it was trained on",
}


def sentences(
    summary: pd.DataFrame, metrics: pd.DataFrame, evaded: pd.DataFrame | None, run: Run
) -> list[str]:
    """What the first detector of a run finds; where that ends.

    Parameters
    ----------
    summary, metrics
        As `detour.metrics.evaluate` has them.
    evaded
        The table of attacks on detectors, see `detour.adaptive`; None: the run has none.
    """
    name = run.detectors[0].name
    rows = summary[(summary["detector"] == name) & (summary["population"] == ALL)]
    mean, worst = (rows[rows["measure"] == measure].set_index("protocol") for measure in ("auc", "worst"))
    protocol = mean.index[0]
    auc = mean.loc[protocol]
    tells = "tells" if auc["low"] > 0.5 else "is not shown to tell"
    limit = next(name for name in WORST if name in worst.index)
    least = worst.loc[limit]
    return [
        f"{name} {tells} attacked images from genuine ones: of 100 pairs of one and the other it ranks"
        f" {_hundredths(auc)} rightly, where guessing ranks 50"
        f"{_flagged(metrics[metrics['detector'] == name], auc['cell']) if protocol == 'known' else ''}.",
        f"{WORST[limit]}, it ranks {_hundredths(least)} of 100 rightly in the worst case, {least['cell']}"
        f"{', which may be guessing' if least['low'] <= 0.5 else ''};"
        f" {evasion(evaded, name, run)}.",
    ]


def _hundredths(row: pd.Series) -> str:
    """A share and its 95 % interval, in hundredths: `87 (82 to 91)`."""
    if pd.isna(row["value"]):
        return "none that could be counted"
    value, low, high = (f"{100 * row[key]:.0f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _flagged(metrics: pd.DataFrame, attack: str) -> str:
    """What is flagged of attacked and of genuine images, at the highest false positive rate that there is."""
    known = metrics[(metrics["protocol"] == "known") & (metrics["originals"] == ALL)].dropna(subset="value")
    by = known.set_index(["measure", "attack", "population"])
    rates = [float(m.partition("@")[2]) for m, of, _ in by.index if of == attack and m.startswith("tpr@")]
    rate = max(rates, default=None)
    found, alarms = (f"tpr@{rate}", attack, "successful"), (f"fpr@{rate}", ORIGINAL, ALL)
    if rate is None or found not in by.index or alarms not in by.index:
        return ""
    return (
        f"; at the threshold for {100 * rate:g} % false alarms it flags {_hundredths(by.loc[found])} of 100"
        f" attacked images that fool the network, and {_hundredths(by.loc[alarms])} of 100 genuine ones"
    )


def evasion(evaded: pd.DataFrame | None, name: str, run: Run) -> str:
    """What an attacker who knows a detector achieves at best, with changes as the run's attacks make."""
    nobody = f"no attacker who knows {name} was tried in this run"
    if evaded is None:
        return nobody
    tried = evaded[(evaded["detector"] == name) & (evaded["eps"] > 0)]
    if tried.empty:
        return nobody
    allowed = [attack.budget for attack in run.attacks if attack.budget and attack.budget_norm == "linf"]
    # Where all are weaker than the weakest budget that was tried, that one; at 255 every image is in reach.
    within = tried["eps"] <= max([*allowed, tried["eps"].min()])
    eps = int(tried["eps"][within].max())
    counts = tried[tried["eps"] == eps].groupby("method", sort=False)[["evaded", "images"]].sum()
    best = counts.loc[(counts["evaded"] / counts["images"]).idxmax()]
    count, images = int(best["evaded"]), int(best["images"])
    low, high = wilson(count, images)
    share = _hundredths(pd.Series({"value": count / images, "low": low, "high": high}))
    weak = "" if count else ", and a stronger one may"
    return (
        f"an attacker who knows it evades it in {share} of 100 cases with changes of at most {eps} of 255"
        f" ({images} {'image' if images == 1 else 'images'}, {best.name}){weak}"
    )
