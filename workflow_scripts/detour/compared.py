"""Compared: runs side by side, on one page that opens anywhere and in one table."""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from detour import leaderboard, pages, tables
from detour.artefacts import written
from detour.errors import InputError
from detour.figures import CYCLE, STYLE, legible
from detour.leaderboard import AtRate, Leaderboard
from detour.metrics import Measured, difference, resampled, sampled
from detour.protocols import ALL
from detour.tabulated import AREA, DIFFERENCE, SHARE, Cell, cell, share

# The false positive rate at which detection is compared.
RATE = 0.05

# Bootstrap samples of a difference.
DRAWS = 2000

# What the columns are called on the page, and how their numbers are written; with `_low` and `_high` beside
# them in the table, these have an interval.
COLUMNS = {
    "run": ("run", ""),
    "network": ("network", ""),
    "dataset": ("dataset", ""),
    "images": ("test images", ".0f"),
    "clean_accuracy": ("clean accuracy", SHARE),
    "eps": ("eps", ""),
    "detector": ("detector", ""),
    "protocol": ("protocol", ""),
    "population": ("population", ""),
    "auc": ("AUC", AREA),
    "worst": ("worst cell", AREA),
    "detected": (f"found at {RATE:.0%}", SHARE),
    "controls": (f"controls flagged at {RATE:.0%}", SHARE),
    "evaded": ("evaded by adaptive attacks, at most", SHARE),
    "difference": ("AUC less that of the first run", DIFFERENCE),
}
# Those that are of a run; on the page they have a table of their own.
ABOUT = ("run", "network", "dataset", "images", "clean_accuracy", "eps")
INTERVALS = ("auc", "worst", "detected", "controls", "evaded", "difference")

MARKERS = "osD^vP*X"


@dataclass
class Compared:
    """A run.

    Parameters
    ----------
    folder
        Where its files are.
    name
        What it is called beside the others.
    board
        Its leaderboard; None: it has none.
    rows
        A row for each detector, protocol and population; columns are those of the table.
    lacks
        What cannot be said of it, and why.
    """

    folder: Path
    name: str
    board: Leaderboard | None
    rows: pd.DataFrame
    lacks: list[str] = field(default_factory=list)


def compare(runs: Sequence[str | Path], out: str | Path) -> list[Path]:
    """Write `comparison.html` and `comparison.csv` of runs into a folder; where they are.

    Differences of AUC are from the first run, of the detector of the same name; see `differences`.

    Parameters
    ----------
    runs
        Folders of finished runs, or their names under `results/`.

    Raises
    ------
    InputError
        If there are fewer than two, or one is no folder of a run.
    """
    places = [_place(run) for run in runs]
    if len(set(map(Path.resolve, places))) < max(2, len(places)):
        raise InputError(
            f"compare: found {', '.join(map(str, places))}, expected two or more runs, each once"
        )
    compared = [_read(place) for place in places]
    names = [run.name for run in compared]
    for run in compared:
        if names.count(run.name) > 1:
            run.name = str(run.folder)
    found = differences(compared)
    table = pd.concat([run.rows.assign(run=run.name) for run in compared], ignore_index=True)
    table = table.merge(found, how="left", on=["run", "detector", "protocol", "population"])
    table["paired"] = table["paired"].fillna("")
    ends = [[name, *(f"{name}{end}" for end in ("_low", "_high") if name in INTERVALS)] for name in COLUMNS]
    ordered = [name for names in ends for name in names]
    # Of early runs alone, some are not known.
    table = table.reindex(columns=[*ordered, "worst_cell", "paired"])
    notes = [f"{run.name}: {line}" for run in compared for line in run.lacks]
    about = table.drop_duplicates("run")
    # What is of the same detector, protocol and population stands together.
    together = table.groupby(["detector", "protocol", "population"], sort=False).ngroup()
    beside = table.iloc[np.argsort(together, kind="stable")]
    page = (
        pages.environment()
        .from_string(files("detour").joinpath("comparison.html").read_text("utf-8"))
        .render(
            style=pages.STYLE,
            runs=[run.name for run in compared],
            tables={
                "Runs": _table(about, ABOUT),
                "Detectors": _table(beside, ["run", *(name for name in COLUMNS if name not in ABOUT)]),
            },
            notes=notes,
            figures=drawn(compared),
            rate=f"{RATE:.0%}",
        )
    )
    paths = [Path(out, f"comparison.{ending}") for ending in ("html", "csv")]
    with written(paths[0]) as part:
        part.write_text(page, "utf-8")
    with written(paths[1]) as part:
        table.to_csv(part, index=False)
    return paths


def _place(run: str | Path) -> Path:
    for place in (Path(run), Path("results", run)):
        if place.is_dir():
            return place
    raise InputError(f"compare: found no folder {run}, nor results/{run}; name the folder of a finished run")


def _read(folder: Path) -> Compared:
    """A run, from its leaderboard; without one, from its summary."""
    path = folder / "leaderboard.json"
    if path.is_file():
        board = leaderboard.read(path)
        run = Compared(folder, board.run, board, pd.DataFrame(_of_board(board)))
        if not any(at.fpr == RATE for d in board.detectors for r in d.results for at in r.detected):
            run.lacks.append(f"metrics.fpr: has no threshold for {RATE:.0%}, so that nothing is told at it")
        return run
    rows, lacks = _of_summary(folder)
    return Compared(folder, folder.resolve().name, None, rows, lacks)


def _of_board(board: Leaderboard) -> Iterable[dict[str, Any]]:
    budgets = sorted({attack.eps for attack in board.attacks if attack.eps is not None})
    about = {
        "network": f"{board.network.model}, {board.network.weights}",
        "dataset": board.dataset.name,
        "images": board.dataset.images,
        "clean_accuracy": board.clean_accuracy,
        "eps": ", ".join(f"{eps:g}" for eps in budgets),
    }
    for detector in board.detectors:
        alarms: dict[str, list[AtRate]] = {alarm.protocol: alarm.controls for alarm in detector.alarms}
        worst = max(detector.adaptive, key=lambda found: found.evaded.value or 0, default=None)
        for result in detector.results:
            of = (result.protocol, result.population)
            figures = {
                "auc": result.auc,
                "worst": result.worst,
                "detected": _at(result.detected),
                "controls": _at(alarms.get(result.protocol, [])),
                # These attack what knows every attack, and all their images are counted.
                "evaded": worst.evaded if worst and of == ("known", ALL) else None,
            }
            yield (
                about
                | {"detector": detector.name, "protocol": result.protocol, "population": result.population}
                | {"worst_cell": result.worst_cell}
                | {
                    f"{name}{end}": getattr(figure, key) if figure else None
                    for name, figure in figures.items()
                    for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))
                }
            )


def _at(rates: Iterable[AtRate]) -> leaderboard.Figure | None:
    return next((at.flagged for at in rates if at.fpr == RATE), None)


# Columns of a summary that an early one may lack, and what stands in for them.
EARLY = {"population": ALL, "cell": "", "low": np.nan, "high": np.nan}


def _of_summary(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Rows of a run that has no leaderboard, and what is not known of it."""
    stored, text = folder / f"summary{tables.ENDING}", folder / "summary.csv"
    if not stored.is_file() and not text.is_file():
        raise InputError(
            f"{folder}: found no leaderboard.json and no summary.csv, expected one of them, as a finished run"
            " has; finish the run"
        )
    numbers = ("value", "low", "high")
    try:
        # A name is text, whatever it looks like.
        found = (
            tables.read(stored)
            if stored.is_file()
            else pd.read_csv(text, dtype=str, keep_default_na=False).apply(
                lambda column: pd.to_numeric(column, errors="coerce") if column.name in numbers else column
            )
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{text}: is no table ({str(error).strip()}); delete it and run again") from None
    if missing := {"detector", "protocol", "measure", "value"} - set(found):
        raise InputError(
            f"{text}: found no column {', '.join(sorted(missing))}, expected a summary of a run; run again"
        )
    lacking = [name for name in EARLY if name not in found]
    found = found.assign(**{name: EARLY[name] for name in lacking})
    lacks = [
        "has no leaderboard.json: its network, dataset, attacks and thresholds are not known here; the same"
        " command as before writes it",
        *([f"its summary has no {', '.join(lacking)}"] if lacking else []),
    ]
    rows = []
    for (detector, protocol, population), of in found.groupby(
        ["detector", "protocol", "population"], sort=False
    ):
        if population not in (ALL, "successful"):
            continue
        key = {"detector": detector, "protocol": protocol, "population": population}
        for name in ("auc", "worst"):
            for row in of[of["measure"] == name].to_dict("records"):
                key |= {name: row["value"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
                key |= {"worst_cell": row["cell"]} if name == "worst" else {}
        flagged = found[
            (found["detector"] == detector) & (found["protocol"] == protocol)
            & (found["population"] == "harmless") & (found["measure"] == f"controls@{RATE}")
        ]  # fmt: skip
        for row in flagged.to_dict("records"):
            key |= {"controls": row["value"], "controls_low": row["low"], "controls_high": row["high"]}
        rows.append(key)
    return pd.DataFrame(rows), lacks


def differences(runs: Sequence[Compared]) -> pd.DataFrame:
    """AUC of every run less that of the first, detector by detector.

    Where two runs have the same test images, by their pixels and in any order, each image is drawn as often
    in the one as in the other, with all that was made of it: the difference is paired (Efron and Tibshirani
    1993). Images are drawn within the folds of the first run; those that no fold of it tests, within the
    folds of their own, and the difference is paired in part. Otherwise both are drawn on their own.

    Parameters
    ----------
    runs
        What stands in the way of a difference is added to what they lack.

    Returns
    -------
    DataFrame
        run, detector, protocol, population, difference, difference_low, difference_high (95 %), paired
        (`paired`, `N of M paired` images, `unpaired`).
    """
    rows: list[dict[str, Any]] = []
    first, *others = runs
    drawn: dict[str, np.ndarray] = {}
    of_first = _digests(first)

    def of_images(fold: int, sources: np.ndarray) -> np.ndarray:
        found = resampled(len(sources), DRAWS, 0, fold)
        names = [of_first[s] if of_first else str(s) for s in sources]
        drawn.update(zip(names, found.T, strict=True))
        return found

    base = _samples(first, of_images)
    for number, run in enumerate(others if base else [], 1):
        of_run = _digests(run)
        same = bool(of_first) and sorted(of_run) == sorted(of_first)
        if of_first and of_run and not same and (both := len({*of_first} & {*of_run})):
            run.lacks.append(
                f"{both} of its {len(of_run)} test images are among the {len(of_first)} of {first.name}, not"
                " all: differences are unpaired, as if none were"
            )
        like = _Like(drawn, of_run if same else [], number)
        found = _samples(run, like)
        if found and not _alike(first, run):
            run.lacks.append(f"its attacks are not those of {first.name}: differences are of both")
        for key in found.keys() & base.keys():
            value, low, high = difference(found[key], base[key])
            rows.append(
                {"run": run.name, "detector": key[0], "protocol": key[1], "population": key[2]}
                | {"difference": value, "difference_low": low, "difference_high": high}
                | {"paired": like.paired}
            )
    columns = ["run", "detector", "protocol", "population", "difference", "difference_low", "difference_high"]
    return pd.DataFrame(rows, columns=[*columns, "paired"])


class _Like:
    """How often images are drawn: as often as elsewhere, or on their own where they were not.

    Parameters
    ----------
    drawn
        How often each was drawn elsewhere, by its name.
    names
        Of the images by source; none: all are drawn on their own.
    seed
        Of the draws of those.
    """

    def __init__(self, drawn: dict[str, np.ndarray], names: list[str], seed: int) -> None:
        self.drawn, self.names, self.seed = drawn, names, seed
        self.tested: set[int] = set()
        self.shared: set[int] = set()

    def __call__(self, fold: int, sources: np.ndarray) -> np.ndarray:
        found = resampled(len(sources), DRAWS, self.seed, fold)
        for column, s in enumerate(sources):
            if self.names and (elsewhere := self.drawn.get(self.names[s])) is not None:
                found[:, column] = elsewhere
                self.shared.add(s)
        self.tested.update(sources)
        return found

    @property
    def paired(self) -> str:
        if self.shared == self.tested:
            return "paired"
        return f"{len(self.shared)} of {len(self.tested)} paired" if self.shared else "unpaired"


def _alike(first: Compared, run: Compared) -> bool:
    """Whether the attacks of two runs are the same, as far as both say."""
    if not first.board or not run.board:
        return True
    if len(first.board.attacks) != len(run.board.attacks):
        return False
    return all(
        (one.name, one.method, one.norm, one.eps) == (other.name, other.method, other.norm, other.eps)
        and (one.options == other.options or None in (one.options, other.options))
        for one, other in zip(first.board.attacks, run.board.attacks, strict=True)
    )


def _digests(run: Compared) -> list[str]:
    """Of the test images, by source; none where they are not there."""
    path = run.folder / f"images/original{tables.ENDING}"
    if not (run.folder / f"scores{tables.ENDING}").is_file():
        return []
    try:
        return leaderboard.digests(path)
    except (InputError, OSError) as error:
        run.lacks.append(f"its test images cannot be read, so that its differences are unpaired: {error}")
        return []


def _samples(
    run: Compared, drawn: Callable[[int, np.ndarray], np.ndarray]
) -> dict[tuple[str, str, str], Measured]:
    """AUCs by detector, protocol and population; none where there are no scores."""
    try:
        scores, verdicts = (
            tables.read(run.folder / f"{name}{tables.ENDING}") for name in ("scores", "verdicts")
        )
        found = sampled(scores, verdicts, drawn)
    except FileNotFoundError as error:
        run.lacks.append(f"has no {Path(error.filename).name}, so that there are no differences")
        return {}
    except (InputError, OSError, KeyError) as error:
        run.lacks.append(f"its scores cannot be read, so that there are no differences: {error}")
        return {}
    keys = ("detector", "protocol", "population")
    return {tuple(row.key[k] for k in keys): row for row in found if row.key["measure"] == "auc"}


def _table(table: pd.DataFrame, names: Iterable[str]) -> tuple[list[str], list[Any]]:
    """Heads and rows of a table of the page, without columns that are empty."""
    kept = [name for name in names if not table[name].replace("", np.nan).isna().all()]
    rows = [list(_shown(row, kept)) for row in table.to_dict("records")]
    return [COLUMNS[name][0] for name in kept], rows


def _shown(row: dict[str, Any], names: Iterable[str]) -> Iterable[tuple[str | Cell, float | str]]:
    """What stands in these columns of the page, and what it is sorted by."""
    for name in names:
        form, value = COLUMNS[name][1], row[name]
        if not form:
            text = "" if pd.isna(value) else str(value)
            yield text, text
        elif pd.isna(value):
            yield Cell(), ""
        elif name not in INTERVALS:
            yield share(value) if form == SHARE else format(value, form), value
        else:
            notes = {"worst": (row["worst_cell"],), "difference": (row["paired"],)}.get(name, ())
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            if pd.isna(low):
                yield Cell(format(value, form), notes=notes), value
            else:
                yield cell({"value": value, "low": low, "high": high, "notes": notes}, form), value


def drawn(runs: Sequence[Compared]) -> list[tuple[Markup, str, str]]:
    """Figures of runs that have a leaderboard, as addresses of their content, alternatives and captions."""
    boards = [(run.name, run.board) for run in runs if run.board]
    mpl.use("agg")
    found = []
    with mpl.rc_context(STYLE):
        for figure, alt, caption in (
            (
                against_accuracy(boards),
                "Points with error bars, a colour for each detector and a marker for each run",
                "AUC with its 95 % interval against the clean accuracy of the network, for all attacked"
                " images; under the protocol known where a run has it.",
            ),
            (
                against_strength(boards),
                "Curves with error bars, a panel for each attack that has several strengths",
                "Share of all attacked images that is found, with its 95 % interval, against the strength of"
                f" the attack, at the threshold for {RATE:.0%} false positives, every attack known.",
            ),
        ):
            if figure:
                held = BytesIO()
                figure.savefig(held, format="svg", metadata={"Date": None})
                plt.close(figure)
                text = base64.b64encode(held.getvalue()).decode()
                found.append((Markup("data:image/svg+xml;base64," + text), alt, caption))
    return found


Boards = Sequence[tuple[str, Leaderboard]]


def against_accuracy(boards: Boards) -> Figure | None:
    """AUC of every detector against the clean accuracy; a colour a detector, a marker a run."""
    looks = _looks(boards)
    figure, axes = plt.subplots(figsize=(6.4, 4))
    some = False
    for (_, board), marker in zip(boards, cycle(MARKERS), strict=False):
        for detector in board.detectors:
            of_all = [result for result in detector.results if result.population == ALL]
            of_all.sort(key=lambda result: result.protocol != "known")
            for found in [result.auc for result in of_all[:1] if result.auc.value is not None]:
                some = True
                axes.errorbar(
                    board.clean_accuracy, found.value, yerr=_ends(found), color=looks[detector.name],
                    marker=marker, ms=5, lw=1,
                )  # fmt: skip
    if not some:
        plt.close(figure)
        return None
    axes.set(xlabel="clean accuracy", ylabel="AUC")
    _legend(figure, boards, looks)
    return figure


def against_strength(boards: Boards) -> Figure | None:
    """What every detector finds of an attack against its strength; a panel an attack."""
    looks = _looks(boards)
    panels: dict[str, list[tuple[int, str, list[tuple[float, leaderboard.Figure]]]]] = {}
    for number, (_, board) in enumerate(boards):
        groups: dict[str, list[leaderboard.Attack]] = {}
        for attack in board.attacks:
            groups.setdefault(attack.of, []).append(attack)
        for detector in board.detectors:
            known = [r for r in detector.results if (r.protocol, r.population) == ("known", ALL)]
            flagged = {by.attack: _at(by.detected) for result in known for by in result.attacks}
            for of, attacks in groups.items():
                points = [
                    (a.eps, at) for a in attacks if (at := flagged.get(a.name)) and at.value is not None
                ]
                line = [(eps, at) for eps, at in points if eps is not None]
                if len(line) > 1:
                    title = of.rpartition("-")[0] or of
                    panels.setdefault(title, []).append((number, detector.name, sorted(line, key=_eps)))
    if not panels:
        return None
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(1 + 3.2 * columns, 1 + 3 * rows), sharey=True, squeeze=False
    )
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (title, lines) in zip(grid.flat, panels.items(), strict=False):
        budgets = sorted({eps for _, _, line in lines for eps, _ in line})
        for number, detector_name, line in lines:
            axes.errorbar(
                # Evenly spaced: budgets double.
                [budgets.index(eps) for eps, _ in line], [at.value for _, at in line],
                yerr=np.hstack([_ends(at) for _, at in line]), color=looks[detector_name],
                marker=MARKERS[number % len(MARKERS)], ms=4, lw=1,
            )  # fmt: skip
        axes.set(
            title=legible([title])[0], xlabel="eps, pixels of 255", ylim=(-0.02, 1.02),
            xticks=range(len(budgets)), xticklabels=[f"{eps:g}" for eps in budgets],
        )  # fmt: skip
    for axes in grid[:, 0]:
        axes.set_ylabel("share that is found")
    _legend(figure, boards, looks)
    return figure


def _eps(point: tuple[float, Any]) -> float:
    return point[0]


def _looks(boards: Boards) -> dict[str, str]:
    """Colours by detector."""
    names = dict.fromkeys(detector.name for _, board in boards for detector in board.detectors)
    return dict(zip(names, cycle(CYCLE), strict=False))


def _ends(found: leaderboard.Figure) -> np.ndarray:
    """Lengths of its error bar, [2, 1]."""
    value, low, high = (np.nan if end is None else end for end in (found.value, found.low, found.high))
    return np.maximum([[value - low], [high - value]], 0)


def _legend(figure: Figure, boards: Boards, looks: dict[str, str]) -> None:
    """Colours of detectors, then markers of runs."""
    handles = [Line2D([], [], color=colour) for colour in looks.values()]
    handles += [
        Line2D([], [], color="0.4", ls="", marker=marker)
        for _, marker in zip(boards, cycle(MARKERS), strict=False)
    ]
    names = legible([*looks, *(name for name, _ in boards)])
    figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)), fontsize=8)
