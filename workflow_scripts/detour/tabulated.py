"""Tables of results, built once: the report draws them as HTML, `benchmarks.tables` as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from detour.metrics import FEW
from detour.options.attacks import Attack
from detour.options.controls import Control
from detour.protocols import ALL
from detour.store import ORIGINAL

# How numbers are written.
AREA, DIFFERENCE, SHARE = ".3f", "+.3f", ".1%"


class Cell(NamedTuple):
    """A value and its 95 % interval as they are written, empty where there is none; notes stand below."""

    value: str = ""
    low: str = ""
    high: str = ""
    notes: "tuple[str | Cell, ...]" = ()

    def __str__(self) -> str:
        return f"{self.value} [{self.low}, {self.high}]" if self.low else self.value or "none"


class Table(NamedTuple):
    """Names of columns, and rows of as many; a text is a name."""

    columns: list[str]
    rows: list[list[str | Cell]]


def cell(row: Mapping[str, Any], form: str) -> Cell:
    """The value, low and high of a row; below, its number of images where they are few, and its `notes`."""
    if pd.isna(row["value"]):
        return Cell()
    value, low, high = (format(row[name], form) for name in ("value", "low", "high"))
    few = (f"n = {row['images']}",) if row.get("images", FEW) < FEW else ()
    return Cell(value, low, high, (*few, *row.get("notes", ())))


def share(value: float) -> Cell:
    """A share alone."""
    return Cell() if pd.isna(value) else Cell(format(value, SHARE))


def crossed(rows: pd.DataFrame, columns: str, form: str, **index: str) -> Table:
    """A row and a column for each value, in the order in which it first stands.

    Parameters
    ----------
    columns
        What the columns are of.
    index
        What the rows are of, and the titles of these columns.
    """
    cells: dict[tuple[str, ...], dict[str, Cell]] = {}
    for row in rows.to_dict("records"):
        cells.setdefault(tuple(row[name] for name in index), {})[row[columns]] = cell(row, form)
    names = list(dict.fromkeys(rows[columns]))
    return Table(
        [*index.values(), *names],
        [[*key, *(of.get(name, Cell()) for name in names)] for key, of in cells.items()],
    )


def _of(metrics: pd.DataFrame, protocol: str, measure: str, **columns: str) -> pd.DataFrame:
    """Rows of all attacked images against all originals, unless columns say otherwise."""
    wanted = {"protocol": protocol, "measure": measure, "originals": ALL, "population": ALL} | columns
    return metrics[(metrics[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def _together(metrics: pd.DataFrame) -> str:
    """What all attacks are called; with one attack, there is nothing to be taken together."""
    attacks = set(metrics[metrics["measure"] == "auc"]["attack"])
    return attacks.pop() if len(attacks) == 1 else ALL


def by_attack(metrics: pd.DataFrame, protocol: str) -> Table:
    """The AUC of every detector on every attack, and where all are known on all together."""
    return crossed(_of(metrics, protocol, "auc"), "attack", AREA, detector=f"AUC, {protocol}")


def transfer(metrics: pd.DataFrame, detector: str) -> Table:
    """The AUC of a detector that was trained on one attack, on every attack."""
    found = _of(metrics, "transfer", "auc", detector=detector)
    return crossed(found, "attack", AREA, case=f"{detector} trained on")


def populations(metrics: pd.DataFrame) -> Table:
    """The AUC of every detector by who counts as adversarial; below, against the originals that are right."""
    known = metrics[(metrics["protocol"] == "known") & (metrics["measure"] == "auc")]
    pooled = known[known["attack"] == _together(metrics)]
    right = pooled[pooled["originals"] == "right"].to_dict("records")
    notes = [(cell(row, AREA),) for row in right]
    every = pooled[pooled["originals"] == ALL].assign(notes=notes)
    # Without a target there is no hit.
    aimed = every["population"].ne("hit") | every.groupby("population")["value"].transform("count").gt(0)
    return crossed(every[aimed], "population", AREA, detector="AUC, known")


def detection(summary: pd.DataFrame) -> Table:
    """The AUC and the worst cell of every detector and protocol; below, its difference and its name."""
    measures = {"auc": "AUC", "worst": "worst cell"}
    summary = summary[summary["measure"].isin(measures)]
    attacked = {ALL: "all attacked", "successful": "successful"}
    columns = summary["measure"].map(measures) + ", " + summary["population"].map(attacked)
    ends = {"difference": "value", "difference_low": "low", "difference_high": "high"}
    differences = summary[list(ends)].rename(columns=ends).to_dict("records")
    notes = [
        (row.cell,) if row.measure == "worst" else (cell(less, DIFFERENCE),) * pd.notna(less["value"])
        for row, less in zip(summary.itertuples(), differences, strict=True)
    ]
    named = summary.assign(column=columns, notes=notes)
    ordered = pd.concat([rows for _, rows in named.groupby("protocol", sort=False)])
    return crossed(ordered, "column", AREA, detector="detector", protocol="protocol")


def operating(metrics: pd.DataFrame, rate: float, controls: Sequence[str], precision: str) -> Table:
    """What every detector flags at the threshold for a false positive rate; below, the deviation over folds.

    Parameters
    ----------
    controls
        Attacks that have a column of their own.
    precision
        Title of the column of the precision.
    """
    pooled = _together(metrics)
    columns = {
        "false positives": ("fpr", ALL, ORIGINAL),
        "all flagged": ("tpr", ALL, pooled),
        "successful flagged": ("tpr", "successful", pooled),
        **{f"{name} flagged (control)": ("tpr", ALL, name) for name in controls},
        "mean below 5 %": ("partial_auc", ALL, pooled),
        precision: ("precision", ALL, pooled),
    }
    parts = []
    for title, (measure, population, attack) in columns.items():
        of = measure if measure == "partial_auc" else f"{measure}@{rate}"
        part = _of(metrics, "known", of, population=population, attack=attack)
        # Of the precision there is none: it is 100 % in a fold without a false positive.
        told = part["std"].notna() & (title != precision)
        deviations = [(f"± {100 * std:.1f}",) * shown for std, shown in zip(part["std"], told, strict=True)]
        parts.append(part.assign(column=title, notes=deviations))
    table = crossed(pd.concat(parts), "column", SHARE, detector=f"known, threshold for {100 * rate:g}%")
    quiet = set(parts[0]["detector"][parts[0]["value"] == 0])
    for row in table.rows:
        if row[0] in quiet and isinstance(last := row[-1], Cell) and last.value:
            row[-1] = Cell(f"at least {last.low}", notes=("no false positive was seen",))
    return table


def controls(metrics: pd.DataFrame, rate: float, trained: Mapping[str, bool]) -> Table:
    """What every detector flags of harmlessly changed images at the threshold for a false positive rate.

    Below, of all images of the control, where some are not harmless.

    Parameters
    ----------
    trained
        Whether controls are in the training, by detector.
    """
    wanted = (metrics["measure"] == f"fpr@{rate}") & (metrics["protocol"] != "transfer")
    rows = metrics[wanted & (metrics["originals"] == ALL)]
    every = rows[(rows["population"] == ALL) & (rows["attack"] != ORIGINAL)].to_dict("records")
    by = ("detector", "protocol", "attack")
    of_all = {tuple(row[name] for name in by): row for row in every}
    originals = rows[(rows["attack"] == ORIGINAL) & (rows["protocol"] == "known")].to_dict("records")
    parts = [
        row | {"attack": "unchanged", "knows": "all" if trained[row["detector"]] else "none", "notes": ()}
        for row in originals
    ]
    for row in rows[rows["population"] == "harmless"].to_dict("records"):
        whole = of_all[tuple(row[name] for name in by)]
        told = "none" if not trained[row["detector"]] else "all" if row["protocol"] == "known" else "others"
        few = whole["images"] > row["images"] and pd.notna(whole["value"])
        notes = (f"{whole['value']:{SHARE}} of all",) * few
        parts.append(row | {"knows": told, "notes": notes})
    return crossed(
        pd.DataFrame(parts),
        "attack",
        SHARE,
        detector=f"threshold for {100 * rate:g}%",
        knows="controls in training",
    )


def outcomes(judged: pd.DataFrame, entries: Sequence[Attack | Control], precision: str) -> Table:
    """What attacks and controls did, by the table of that name.

    What differs in that precision is told if it is another than float32.
    """
    options = {entry.name: entry.model_dump() | {"eps": _strength(entry)} for entry in entries}
    lower = precision != "float32"
    aimed = judged["target_hits"].notna().any()
    shares = ("accuracy", *(["target_hits"] if aimed else []), "successful")
    rows: list[list[str | Cell]] = []
    for row in judged.to_dict("records"):
        of = options.get(row["set"], {"method": "", "eps": ""})
        norm = f" ({of['norm'].upper()})" if of.get("norm") in ("l1", "l2") else ""
        rows.append([
            row["set"], " ".join(filter(None, [of["method"], of.get("attack")])),
            f"{of['eps']}{norm}",
            *(share(row[name]) for name in shares),
            Cell(f"{row['linf']}"), Cell(f"{row['l2']:.0f}"), *([share(row["differs"])] if lower else []),
        ])  # fmt: skip
    columns = [
        "set", "method", "eps", "still right", *(["taken for the target"] if aimed else []), "successful",
        "largest change of a value, of 255", "mean L2 norm of the change, in units of 1/255",
    ]  # fmt: skip
    return Table([*columns, *([f"otherwise in {precision}"] if lower else [])], rows)


def _strength(entry: Attack | Control) -> str:
    """How strong it is, as people write it."""
    if isinstance(entry, Attack):
        return "none" if entry.budget is None else f"{getattr(entry, 'eps', '')}"
    key = entry.strength
    return f"{key} {getattr(entry, key)}" if key else "none"
