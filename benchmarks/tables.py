"""What `docs/results.md` shows of a run, as Markdown: python -m benchmarks.tables results/RUN"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from detour.protocols import ALL
from detour.store import ORIGINAL

RATE = 0.05
OPERATING = {
    "false positives": (f"fpr@{RATE}", ORIGINAL, ALL),
    "all flagged": (f"tpr@{RATE}", ALL, ALL),
    "successful flagged": (f"tpr@{RATE}", ALL, "successful"),
    "noise flagged": (f"tpr@{RATE}", "noise", ALL),
    "precision at 1 in 1,000": (f"precision@{RATE}", ALL, ALL),
}


def tables(run: Path) -> Iterator[str]:
    """The tables of a finished run, which its report has as well, and what its jobs took."""
    metrics, summary = pd.read_csv(run / "metrics.csv"), pd.read_csv(run / "summary.csv")
    cells = metrics[metrics["originals"] == ALL]
    auc = cells[cells["measure"] == "auc"]
    everyone = auc[auc["population"] == ALL]
    for protocol in ("known", "unknown"):
        if len(of_protocol := everyone[everyone["protocol"] == protocol]):
            yield pivot(of_protocol, f"AUC, {protocol}", "attack")
    yield pivot(auc[(auc["protocol"] == "known") & (auc["attack"] == ALL)], "AUC, known", "population")
    headline = summary[summary["population"] == ALL]
    for measure in ("auc", "worst"):
        title = {"auc": "AUC, mean of the cells", "worst": "AUC, worst cell"}[measure]
        yield pivot(headline[headline["measure"] == measure], title, "protocol")
    paired = headline[headline["difference"].notna() & (headline["measure"] == "auc")]
    if len(paired):
        ends = {"difference": "value", "difference_low": "low", "difference_high": "high"}
        differences = paired.drop(columns=ends.values()).rename(columns=ends)
        yield pivot(differences, f"AUC less {summary['detector'].iloc[0]}'s", "protocol", "{:+.3f}")
    known = cells[cells["protocol"] == "known"].set_index(["measure", "attack", "population"]).sort_index()
    operating = [
        known.loc[key].assign(column=title) for title, key in OPERATING.items() if key in known.index
    ]
    yield pivot(pd.concat(operating), f"known, threshold for {RATE:.0%}", "column", "{:.1%}")
    crossed = everyone[everyone["protocol"] == "transfer"]
    best = headline[(headline["protocol"] == "known") & (headline["measure"] == "auc")].nlargest(1, "value")
    for detector in dict.fromkeys([summary["detector"].iloc[0], *best["detector"]]):
        of_one = crossed[crossed["detector"] == detector]
        if len(of_one):
            yield pivot(of_one.assign(detector=of_one["case"]), f"{detector} trained on", "attack")
    if (run / "adaptive.csv").exists():
        evaded = pd.read_csv(run / "adaptive.csv").rename(columns={"share": "value"})
        evaded["eps"] = "eps " + evaded["eps"].astype(str)
        evaded["detector"] += ", " + evaded["method"] + ", fold " + evaded["fold"].astype(str)
        yield pivot(evaded, "evaded", "eps", "{:.1%}")
    yield spent(run / "benchmarks")


def pivot(rows: pd.DataFrame, title: str, columns: str, form: str = "{:.3f}") -> str:
    """A row for each detector; cells have the value and its interval."""
    cells = [
        f"{form} [{form}, {form}]".format(row.value, row.low, row.high) if pd.notna(row.value) else "none"
        for row in rows.itertuples()
    ]
    table = rows.assign(cell=cells).pivot_table("cell", "detector", columns, aggfunc="first", sort=False)
    table = table.reset_index().rename(columns={"detector": title})
    return tabulate(table, headers="keys", tablefmt="github", showindex=False)


def spent(folder: Path) -> str:
    """Seconds of every kind of job, by Snakemake's records; the first folder under `benchmarks/` is the kind."""
    found = []
    for path in sorted(folder.rglob("*.tsv")):
        job = pd.read_csv(path, sep="\t").iloc[-1]
        parts = path.relative_to(folder).with_suffix("").parts
        # Of detectors, which one.
        kind = " ".join(parts[:2]) if parts[0] == "detectors" else parts[0]
        found.append({"stage": kind, "jobs": 1, "seconds": job["s"]})
    table = pd.DataFrame(found).groupby("stage").sum().sort_values("seconds", ascending=False)
    table.loc["sum"] = table.sum()
    return tabulate(
        table.round().astype(int).reset_index(), headers="keys", tablefmt="github", showindex=False
    )


if __name__ == "__main__":
    print("\n\n".join(tables(Path(sys.argv[1]))))
