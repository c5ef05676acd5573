"""Pictures: explanations drawn, one for `detour explain` and three of a run for its report."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from detour import store, tables
from detour.artefacts import written
from detour.detector import Detector
from detour.explanation import BAND, Explanation
from detour.figures import BLUE, RED, STYLE, TEAL, Drawing, cut, legible, save
from detour.store import ORIGINAL, named

# Images with a p-value of at most this are flagged in the report's figure.
FPR = 0.05

KINDS = {
    "caught": "an attacked image that fooled the network and is flagged",
    "missed": "an attacked image that fooled the network and is not flagged",
    "false alarm": "a genuine image that is flagged",
}


def write(explanation: Explanation, out: Path) -> list[Path]:
    """Write an explanation as picture and as numbers; the paths that it is under.

    Parameters
    ----------
    out
        Path without the endings `.svg`, `.pdf`, `.png` and `.json`.
    """
    paths = [out.with_name(out.name + ending) for ending in (".svg", ".pdf", ".png", ".json")]
    mpl.use("agg")
    with mpl.rc_context(STYLE):
        figure = plt.figure(figsize=(11, 3))
        _draw(figure, explanation, Path(explanation.file).name)
        for path in paths[:-1]:
            save(figure, path, "explained")
        plt.close(figure)
    with written(paths[-1]) as part:
        numbers = json.dumps(explanation.numbers(), indent=1, ensure_ascii=False)
        part.write_text(numbers + "\n", "utf-8")
    return paths


def summary(explanation: Explanation) -> str:
    """The same in some lines of text."""
    e = explanation
    lines = [
        f"{e.file or 'image'}: predicted {e.predicted}, runner-up {e.runner_up}"
        f"{f', true {e.label}' if e.label else ''};"
        f" p = {e.p:.4g}, score {e.score:.4g}",
        f"its path {f'leaves at {e.leaves}' if e.leaves else 'leaves nowhere'}",
        f"score {e.score:.4g} = {e.baseline:.4g} of a genuine image"
        f" {_sum(e.parts.values())} of the parts below {_sum([e.unexplained])} unexplained ({e.method})",
    ]
    rows = _numbers(e).rename(columns={"distance to predicted": "distance"})
    rows = rows[["layer", "distance", *(f"genuine {q} %" for q in BAND), "part"]]
    near = [
        f"nearest at {layer} among {e.among} reference images of each class:"
        f" {', '.join(n.label for n in e.neighbours if n.layer == layer)}"
        for layer in dict.fromkeys(n.layer for n in e.neighbours)
    ]
    return "\n".join([*lines, rows.to_string(index=False, float_format="{:.4g}".format, na_rep=""), *near])


def _sum(parts: Iterable[float]) -> str:
    total = sum(parts)
    return f"{'-' if total < 0 else '+'} {abs(total):.4g}"


def explained(
    bundle: str | Path, images: Sequence[str | Path], scores: str | Path, verdicts: str | Path, *,
    detector: str, seed: int, trusted: Sequence[str],
) -> Drawing:  # fmt: skip
    """An image that was caught, one that was missed and a false alarm, each with its explanation.

    Each is scored by the detector of the fold that has not seen it.

    Parameters
    ----------
    images
        Stores of the originals and the attacked ones.
    detector, seed
        The detector of the bundle, and the seed of its training.
    trusted
        Code from outside that the bundle runs.
    """
    table = tables.read(scores)
    table = table[(table["detector"] == detector) & (table["seed"] == seed)]
    chosen = cases(table, tables.read(verdicts))
    loaded, stores = Detector.load(bundle, "cpu", trusted), named(images)
    numbers = []
    figure = plt.figure(figsize=(11, 3.2 * len(KINDS)))
    parts = figure.subfigures(len(KINDS), 1, squeeze=False).flat
    for part, (kind, words) in zip(parts, KINDS.items(), strict=True):
        if (row := chosen[kind]) is None:
            part.text(0.5, 0.5, f"nothing to show: there is not {words}", ha="center", va="center")
            continue
        name, source = str(row["set"]), int(row["source"])
        label = int(store.read(stores[ORIGINAL])["label"][source])
        image = store.read(stores[name])["images"][source]
        found = replace(loaded.explain(image, label=label, fold=int(row["fold"])), p=float(row["p"]))
        _draw(part, found, f"{kind}: {name}, image {source}")
        numbers.append(
            _numbers(found).assign(kind=kind, set=name, image=source, p=found.p, score=found.score)
        )
    return Drawing(figure, pd.concat(numbers) if numbers else pd.DataFrame({"nothing to show": [*KINDS]}))


def _numbers(e: Explanation) -> pd.DataFrame:
    """What is drawn of an explanation at each layer: distances, the band of genuine images, and the parts."""
    distances = {f"distance to {name}": values for name, values in e.distance.items()}
    band = {f"genuine {q} %": e.band[str(q)] for q in BAND}
    rows = pd.DataFrame(distances | band, index=e.layers)
    # The classifier's output has a part, but no medoid.
    return rows.reindex([*e.parts]).assign(part=e.parts.values()).rename_axis("layer").reset_index()


def cases(scores: pd.DataFrame, verdicts: pd.DataFrame) -> dict[str, pd.Series | None]:
    """The images that are explained, with their p-values; None where there is no image of the kind.

    Of those caught the one with the lowest p, of the missed with the highest, of false alarms with the
    lowest.

    Parameters
    ----------
    scores
        Of one detector and seed.
    """
    table = scores[(scores["protocol"] == "known") & (scores["role"] == "test")]
    table = table[(table["adversarial"] == 1) | (table["set"] == ORIGINAL)]
    table = table.merge(verdicts[["set", "source", "successful"]], on=["set", "source"])
    table["p"] = 1.0
    for _, rows in table.groupby("fold"):
        genuine = np.sort(rows["score"][rows["set"] == ORIGINAL])
        above = len(genuine) - np.searchsorted(genuine, rows["score"])
        # An original is one of them, and counts itself.
        own = (rows["set"] == ORIGINAL).to_numpy()
        table.loc[rows.index, "p"] = np.where(own, above / len(genuine), (1 + above) / (1 + len(genuine)))
    flagged, attacked = table["p"] <= FPR, (table["adversarial"] == 1) & table["successful"]
    of_kinds = {
        "caught": (attacked & flagged, True),
        "missed": (attacked & ~flagged, False),
        "false alarm": ((table["set"] == ORIGINAL) & flagged, True),
    }
    found: dict[str, pd.Series | None] = {}
    for kind, (which, lowest) in of_kinds.items():
        rows = table[which].sort_values(["p", "score"], ascending=[lowest, not lowest], kind="stable")
        found[kind] = rows.iloc[0] if len(rows) else None
    return found


def _draw(figure: Figure | SubFigure, e: Explanation, title: str) -> None:
    """An explanation from left to right: the image, its path, the parts of its score, its neighbours."""
    near = list(dict.fromkeys(n.layer for n in e.neighbours))
    names = [e.predicted, e.runner_up, e.label, *(n.label for n in e.neighbours), title]
    drawn = dict(zip(names, legible([cut(n, 40) for n in names]), strict=True))
    figure.suptitle(drawn[title], fontsize=10)
    image, path, parts, neighbours = figure.subfigures(
        1, 4, width_ratios=[1, 2.4, 1.9, 1.9], squeeze=False
    ).flat
    axes = image.subplots()
    _pixels(axes, e.pixels)
    true = f"\ntrue class {drawn[e.label]}" if e.label else ""
    axes.set_xlabel(f"taken for {drawn[e.predicted]}{true}\np = {e.p:.3g}", fontsize=8)
    _path(path.subplots(), e, drawn)
    _parts(parts.subplots(), e)
    columns = max(sum(n.layer == layer for n in e.neighbours) for layer in near)
    panels = neighbours.subplots(len(near), columns, squeeze=False)
    for row, layer in zip(panels, near, strict=True):
        for axes, neighbour in zip(row, (n for n in e.neighbours if n.layer == layer), strict=True):
            _pixels(axes, neighbour.picture)
            axes.set_xlabel(legible([cut(neighbour.label, 12)])[0], fontsize=7, labelpad=2)
        row[0].set_title(f"nearest at {layer}", fontsize=8, loc="left")


def _pixels(axes: Axes, pixels: np.ndarray) -> None:
    axes.imshow(pixels.transpose(1, 2, 0), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _path(axes: Axes, e: Explanation, names: dict[str, str]) -> None:
    """Distances in units of the median genuine image's, with the band of genuine images."""
    low, middle, high = (np.array(e.band[str(q)]) for q in BAND)
    # A layer at which every genuine image is the medoid has no unit: a gap in the lines.
    unit = np.where(middle > 0, middle, np.nan)
    of = f"genuine {names.get(e.of, '')}".strip()
    axes.fill_between(e.layers, low / unit, high / unit, color="0.5", alpha=0.25, lw=0,
                      label=f"{of}, {BAND[0]} to {BAND[-1]} % of {e.genuine}")  # fmt: skip
    lines = (
        ("predicted", RED, "o-", f"to {names[e.predicted]}, predicted"),
        ("runner_up", TEAL, "s-", f"to {names[e.runner_up]}, runner-up"),
        ("label", BLUE, "D--", f"to {names[e.label]}, true"),
    )
    for name, colour, style, text in lines:
        if name in e.distance:
            axes.plot(
                e.layers, np.array(e.distance[name]) / unit, style, color=colour, ms=3, lw=1.2, label=text
            )
    if e.leaves:
        axes.axvline(e.layers.index(e.leaves), color="0.3", lw=0.8, ls=":", label="leaves here")
    axes.set(ylabel="distance to the medoid /\nmedian of genuine images")
    axes.tick_params(axis="x", rotation=60, labelsize=7)
    axes.legend(fontsize=6.5)


def _parts(axes: Axes, e: Explanation) -> None:
    names = [*e.parts, "unexplained"]
    values = [*e.parts.values(), e.unexplained]
    colours = [RED if value > 0 else BLUE for value in e.parts.values()]
    axes.bar(names, values, color=[*colours, "0.6"])
    axes.axhline(0, color="0.3", lw=0.6)
    axes.set(ylabel="part of the score")
    axes.set_title(f"score {e.score:.3g}, of a genuine image {e.baseline:.3g}", fontsize=8)
    axes.tick_params(axis="x", rotation=60, labelsize=7)
