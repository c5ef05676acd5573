"""What `docs/results.md` shows of a run, as Markdown: python -m benchmarks.tables results/RUN"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from detour.protocols import ALL
from detour.store import ORIGINAL
from detour.tables import read

# The rate that is shown, where it was asked for; otherwise all that were.
RATE = "0.05"


def tables(run: Path) -> Iterator[str]:
    """The tables of a finished run, which its report has as well, and what its jobs took.

    Whatever the run has: a table of what it lacks is left out.
    """
    metrics, summary = read(run / "metrics.zarr.zip"), read(run / "summary.zarr.zip")
    found = [*measured(metrics, summary)]
    if (run / "adaptive.zarr.zip").exists():
        evaded = read(run / "adaptive.zarr.zip").rename(columns={"share": "value"})
        evaded["eps"] = "eps " + evaded["eps"].astype(str)
        evaded["detector"] += ", " + evaded["method"] + ", fold " + evaded["fold"].astype(str)
        found.append((evaded, "evaded", "eps", "{:.1%}"))
    yield from (pivot(*table) for table in found if len(table[0]))
    if any((run / "benchmarks").rglob("*.tsv")):
        yield spent(run / "benchmarks")


def measured(metrics: pd.DataFrame, summary: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, str, str, str]]:
    """Arguments of `pivot`, some with no rows."""
    attacks = [name for name in dict.fromkeys(metrics["attack"]) if name not in (ALL, ORIGINAL)]
    # With one attack, there is nothing to be taken together.
    together = ALL if len(attacks) > 1 else attacks[0]
    cells = metrics[metrics["originals"] == ALL]
    auc = cells[cells["measure"] == "auc"]
    everyone = auc[auc["population"] == ALL]
    for protocol in ("known", "unknown"):
        yield everyone[everyone["protocol"] == protocol], f"AUC, {protocol}", "attack", "{:.3f}"
    known = cells[(cells["protocol"] == "known") & cells["attack"].isin([together, ORIGINAL])]
    yield known[known["measure"] == "auc"], "AUC, known", "population", "{:.3f}"
    headline = summary[summary["population"] == ALL]
    for measure, title in (("auc", "AUC, mean of the cells"), ("worst", "AUC, worst cell")):
        yield headline[headline["measure"] == measure], title, "protocol", "{:.3f}"
    ends = {"difference": "value", "difference_low": "low", "difference_high": "high"}
    if "difference" in headline:
        paired = headline[headline["difference"].notna() & (headline["measure"] == "auc")]
        differences = paired.drop(columns=ends.values()).rename(columns=ends)
        yield differences, f"AUC less {summary['detector'].iloc[0]}'s", "protocol", "{:+.3f}"
    noise = cells[(cells["protocol"] == "known") & (cells["attack"] == "noise")]
    asked = [name.removeprefix("fpr@") for name in dict.fromkeys(known["measure"]) if name.startswith("fpr@")]
    for rate in [RATE] if RATE in asked else asked:
        operating = [
            rows[(rows["measure"] == measure) & (rows["population"] == population)].assign(column=title)
            for title, rows, measure, population in (
                ("false positives", known, f"fpr@{rate}", ALL),
                ("all flagged", known, f"tpr@{rate}", ALL),
                ("successful flagged", known, f"tpr@{rate}", "successful"),
                ("noise flagged", noise, f"tpr@{rate}", ALL),
                # At the base rate that the run asked for, which its report says.
                ("precision", known, f"precision@{rate}", ALL),
            )
        ]
        yield pd.concat(operating), f"known, threshold for {100 * float(rate):g}%", "column", "{:.1%}"
    crossed = everyone[everyone["protocol"] == "transfer"]
    best = headline[(headline["protocol"] == "known") & (headline["measure"] == "auc")].nlargest(1, "value")
    for detector in dict.fromkeys([summary["detector"].iloc[0], *best["detector"]]):
        of_one = crossed[crossed["detector"] == detector]
        yield of_one.assign(detector=of_one["case"]), f"{detector} trained on", "attack", "{:.3f}"


def pivot(rows: pd.DataFrame, title: str, columns: str, form: str) -> str:
    """A row for each detector; cells have the value and its interval."""
    cells = [
        f"{form} [{form}, {form}]".format(row.value, row.low, row.high) if pd.notna(row.value) else "none"
        for row in rows.itertuples()
    ]
    table = rows.assign(cell=cells).pivot_table("cell", "detector", columns, aggfunc="first", sort=False)
    table = table.reset_index().rename(columns={"detector": title})
    # Names that look like numbers are names.
    return tabulate(table, headers="keys", tablefmt="github", showindex=False, disable_numparse=True)


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
