"""What `docs/results.md` shows of a run, as Markdown: python -m benchmarks.tables results/RUN"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from detour import tabulated
from detour.protocols import ALL
from detour.tables import read
from detour.tabulated import AREA, DIFFERENCE, SHARE, Table, crossed

# The rate that is shown, where it was asked for; otherwise all that were.
RATE = 0.05


def tables(run: Path) -> Iterator[str]:
    """The tables of a finished run, and what its jobs took.

    Whatever the run has: a table of what it lacks is left out.
    """
    found = [*measured(read(run / "metrics.zarr.zip"), read(run / "summary.zarr.zip"))]
    if (run / "adaptive.zarr.zip").exists():
        evaded = read(run / "adaptive.zarr.zip").rename(columns={"share": "value"})
        evaded["eps"] = "eps " + evaded["eps"].astype(str)
        evaded["detector"] += ", " + evaded["method"] + ", fold " + evaded["fold"].astype(str)
        found.append(crossed(evaded, "eps", SHARE, detector="evaded"))
    for table in found:
        if table.rows:
            rows = [[str(cell) for cell in row] for row in table.rows]
            # Names that look like numbers are names.
            yield tabulate(rows, headers=table.columns, tablefmt="github", disable_numparse=True)
    if any((run / "benchmarks").rglob("*.tsv")):
        yield spent(run / "benchmarks")


def measured(metrics: pd.DataFrame, summary: pd.DataFrame) -> Iterator[Table]:
    """Tables of the report, and its summary in one for each figure; some have no rows."""
    yield tabulated.by_attack(metrics, "known")
    yield tabulated.by_attack(metrics, "unknown")
    yield unseen(metrics, "auc", AREA, "AUC, unknown, successful")
    yield tabulated.populations(metrics)
    headline = summary[summary["population"] == ALL]
    auc, worst = (headline[headline["measure"] == measure] for measure in ("auc", "worst"))
    yield crossed(auc, "protocol", AREA, detector="AUC, mean of the cells")
    yield crossed(worst, "protocol", AREA, detector="AUC, worst cell")
    first = summary["detector"].iloc[0]
    ends = {"difference": "value", "difference_low": "low", "difference_high": "high"}
    if "difference" in auc:
        paired = auc[auc["difference"].notna()].drop(columns=ends.values()).rename(columns=ends)
        yield crossed(paired, "protocol", DIFFERENCE, detector=f"AUC less {first}'s")
    flagging = dict.fromkeys(metrics["measure"][metrics["measure"].str.startswith("fpr@")])
    rates = [float(name.removeprefix("fpr@")) for name in flagging]
    for rate in [RATE] if RATE in rates else rates:
        yield tabulated.operating(metrics, rate, ["noise"], "precision")
        yield unseen(metrics, f"tpr@{rate}", SHARE, f"unknown, successful flagged at {rate:.0%}")
        yield harmless(metrics, rate)
    best = auc[auc["protocol"] == "known"].nlargest(1, "value")
    for detector in dict.fromkeys([first, *best["detector"]]):
        yield tabulated.transfer(metrics, detector)


def unseen(metrics: pd.DataFrame, measure: str, form: str, title: str) -> Table:
    """A measure of the attacks that succeeded, each by detectors that know none of its family."""
    wanted = {"protocol": "unknown", "population": "successful", "originals": ALL, "measure": measure}
    rows = metrics[(metrics[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    return crossed(rows, "attack", form, detector=title)


def harmless(metrics: pd.DataFrame, rate: float) -> Table:
    """What detectors flag of each control that is harmless to the classifier; the report's table, turned.

    A detector that is trained with controls has a second column: none of that kind were in its training.
    """
    wanted = (metrics["measure"] == f"fpr@{rate}") & (metrics["population"] == "harmless")
    rows = metrics[wanted & (metrics["originals"] == ALL) & (metrics["protocol"] != "transfer")]
    column = rows["detector"] + rows["protocol"].map({"known": "", "unknown": ", kind unseen"})
    return crossed(rows.assign(column=column), "column", SHARE, attack=f"harmless, flagged at {rate:.0%}")


def spent(folder: Path) -> str:
    """Seconds of every kind of job, by Snakemake's records; the first folder under `benchmarks/` is the kind."""
    found = []
    for path in sorted(folder.rglob("*.tsv")):
        parts = path.relative_to(folder).with_suffix("").parts
        # Of detectors, which one.
        kind = " ".join(parts[:2]) if parts[0] == "detectors" else parts[0]
        found.append({"stage": kind, "jobs": 1, "seconds": record(path)["s"]})
    table = pd.DataFrame(found).groupby("stage").sum().sort_values("seconds", ascending=False)
    table.loc["sum"] = table.sum()
    return tabulate(
        table.round().astype(int).reset_index(), headers="keys", tablefmt="github", showindex=False
    )


def record(path: Path) -> pd.Series:
    """What Snakemake measured of a job: all but one of its columns are numbers."""
    numbers = pd.read_csv(
        path, sep="\t", usecols=lambda name: name != "h:m:s", dtype=float, na_values=["-", "NA"]
    )
    return numbers.iloc[-1]


if __name__ == "__main__":
    print("\n\n".join(tables(Path(sys.argv[1]))))
