"""Figures of a run, each drawn as SVG for the report and as PDF for print, with its data as CSV."""

import re
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.ticker import MaxNLocator
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from detour import methods, store, tables
from detour.artefacts import written
from detour.metrics import FALSE_POSITIVE_RATES, FEW, mean_roc, wilson
from detour.protocols import ALL
from detour.seeds import draw as seeded
from detour.store import NO_TARGET, ORIGINAL, named

Paths = Sequence[str | Path]

# Paul Tol's vibrant colours, which colour-blind readers can tell apart, and whose red is red.
BLUE, ORANGE, TEAL, RED, MAGENTA, CYAN = (
    "#0077BB", "#EE7733", "#009988", "#CC3311", "#EE3377", "#33BBEE",
)  # fmt: skip
CYCLE = [BLUE, RED, TEAL, MAGENTA, ORANGE, CYAN]

STYLE = {
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    # A curve below chance passes behind the legend.
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "pdf.fonttype": 42,
    "savefig.bbox": "tight",
    # Names are text: a dollar begins no formula.
    "text.parse_math": False,
    # The same figure is the same bytes.
    "svg.hashsalt": "detour",
    # Text stays text, to be searched and copied, in letters that the reader's machine has.
    "svg.fonttype": "none",
}


class Drawing(NamedTuple):
    """A figure, and the numbers that are drawn in it."""

    figure: Figure
    data: pd.DataFrame


def legible(names: Sequence[str]) -> list[str]:
    """Names as a figure can draw them, whatever their script.

    Fonts of this machine that have the characters which ours lacks are added to those that matplotlib draws
    with. What no font has is written as Python escapes it, in place of an empty box.
    """
    ours = get_font(findfont("DejaVu Sans")).get_charmap()
    missing = {ord(c) for name in names for c in name} - ours.keys()
    if missing:
        for font in sorted(fontManager.ttflist, key=lambda font: (font.weight != 400, font.name, font.fname)):
            # Not a font of boxes for all there is, nor one of coloured pictures, which is not drawn.
            file = get_font(font.fname)
            usable = file.scalable and "LastResort" not in font.fname
            if usable and (found := missing & file.get_charmap().keys()):
                families = mpl.rcParams["font.family"]
                mpl.rcParams["font.family"] = list(dict.fromkeys([*families, font.name]))
                missing -= found
    escaped = {c: chr(c).encode("unicode_escape").decode() for c in missing}
    return [name.translate(escaped) for name in names]


def cut(name: str, width: int) -> str:
    """A name of at most so many characters."""
    return name if len(name) <= width else f"{name[: width - 3]}..."


def intervals(summary: str | Path) -> Drawing:
    """AUC of every detector under every protocol with its interval: the mean filled, the worst cell open."""
    table = tables.read(summary)
    table = table[(table["population"] == "all") & table["measure"].isin(["auc", "worst"])]
    names = list(dict.fromkeys(table["detector"]))
    protocols = list(dict.fromkeys(table["protocol"]))
    figure, axes = plt.subplots(figsize=(6.4, 0.9 + 0.17 * len(names) * (1 + len(protocols))))
    axes.axvline(0.5, color="0.7", lw=0.8, ls=":")
    for i, protocol in enumerate(protocols):
        for measure, face in (("auc", CYCLE[i]), ("worst", "white")):
            rows = table[(table["protocol"] == protocol) & (table["measure"] == measure)]
            at = [names.index(name) + (i - (len(protocols) - 1) / 2) * 0.24 for name in rows["detector"]]
            axes.errorbar(
                rows["value"], at, xerr=_errors(rows), fmt="o" if measure == "auc" else "D",
                color=CYCLE[i], mfc=face, ms=4, lw=1,
                label=f"{protocol}: {'worst cell' if measure == 'worst' else 'mean'}",
            )  # fmt: skip
    axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlabel="AUC")
    figure.legend(loc="outside upper center", ncols=len(protocols), fontsize=8)
    return Drawing(figure, table)


def _errors(rows: pd.DataFrame) -> np.ndarray:
    """Lengths of error bars [2, m]: percentiles of a worst cell may lie on one side of it."""
    return np.maximum([rows["value"] - rows["low"], rows["high"] - rows["value"]], 0)


def roc(scores: str | Path, metrics: str | Path, *, detectors: Sequence[str]) -> Drawing:
    """Mean ROC over folds of detectors that know every attack, with one standard deviation (fig. 3)."""
    table, values = _known(scores, metrics, detectors)
    figure, axes = plt.subplots(figsize=(4.8, 4.4))
    points = _roc(axes, table, values, ALL if ALL in values.index.levels[1] else table["set"].unique()[1])
    axes.set_title("all attacks")
    return Drawing(figure, points)


def roc_attacks(scores: str | Path, metrics: str | Path, *, detectors: Sequence[str]) -> Drawing:
    """The same for each attack against the originals."""
    table, values = _known(scores, metrics, detectors)
    attacks = [name for name in table["set"].unique() if name != ORIGINAL]
    columns = min(4, len(attacks))
    rows = -(-len(attacks) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.8 * columns, 3.0 * rows), squeeze=False, sharex=True, sharey=True
    )
    points = [
        _roc(panel, table[table["set"].isin([ORIGINAL, name])], values, name)
        for panel, name in zip(axes.flat, attacks, strict=False)
    ]
    for panel in axes.flat[len(attacks) :]:
        panel.set_visible(False)
    return Drawing(figure, pd.concat(points))


def _known(
    scores: str | Path, metrics: str | Path, detectors: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of the test under the protocol `known`, and its AUC by detector and attack."""
    table, values = tables.read(scores), tables.read(metrics)
    table = table[(table["protocol"] == "known") & (table["role"] == "test")]
    # Controls are no part of the ROC.
    table = table[(table["adversarial"] == 1) | (table["set"] == ORIGINAL)]
    values = values[(values["protocol"] == "known") & (values["measure"] == "auc")]
    values = values[(values["population"] == "all") & (values["originals"] == "all")]
    return table[table["detector"].isin(detectors)], values.set_index(["detector", "attack"])


def _roc(axes: Axes, scores: pd.DataFrame, values: pd.DataFrame, attack: str) -> pd.DataFrame:
    """Draw the curves of an attack; their points."""
    points = []
    axes.plot([0, 1], [0, 1], color="0.7", lw=0.8, ls=":")
    for name, of_detector in scores.groupby("detector", sort=False):
        mean, std = mean_roc(of_detector)
        found = values.loc[(name, attack)]
        label = f"{name} {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
        (line,) = axes.plot(FALSE_POSITIVE_RATES, mean, label=label)
        axes.fill_between(
            FALSE_POSITIVE_RATES, np.clip(mean - std, 0, 1), np.clip(mean + std, 0, 1),
            color=line.get_color(), alpha=0.15, lw=0,
        )  # fmt: skip
        rates = {"fpr": FALSE_POSITIVE_RATES, "tpr": mean, "std": std}
        points.append(pd.DataFrame({"attack": attack, "detector": name, **rates}))
    axes.set(
        title=attack, xlabel="false positive rate", ylabel="true positive rate",
        xlim=(0, 1), ylim=(0, 1.01), aspect="equal",
    )  # fmt: skip
    axes.label_outer()
    axes.legend(loc="lower right", title="AUC", fontsize=7, title_fontsize=8)
    return pd.concat(points)


def histories(histories: str | Path, *, detectors: Sequence[str]) -> Drawing:
    """Training loss and validation AUC by epoch, of every case: mean, least and greatest of all folds."""
    table = tables.read(histories)
    curves = []
    size = 1.4 + 2.8 * len(detectors), 4.6
    figure, axes = plt.subplots(2, len(detectors), figsize=size, squeeze=False, sharex="col", sharey="row")
    for column, name in zip(axes.T, detectors, strict=True):
        of_detector = table[table["detector"] == name].dropna(subset="epoch")
        for (protocol, case), rows in of_detector.groupby(["protocol", "case"], sort=False):
            by_epoch = rows.groupby("epoch")
            for panel, value, guessed in zip(
                column, ("loss", "validation_auc"), ("guessed_loss", "guessed_auc"), strict=True
            ):
                low, mean, high = (getattr(by_epoch[value], of)() for of in ("min", "mean", "max"))
                (line,) = panel.plot(mean, lw=1.2, label=f"{protocol}: {case}")
                panel.fill_between(mean.index, low, high, color=line.get_color(), alpha=0.12, lw=0)
                panel.axhline(rows[guessed].mean(), color=line.get_color(), lw=0.8, ls=":")
                about = {"detector": name, "protocol": protocol, "case": case, "measure": value}
                ends = {"low": low, "mean": mean, "high": high, "guessed": rows[guessed].mean()}
                curves.append(pd.DataFrame(about | ends).rename_axis("epoch").reset_index())
        column[0].set(title=name)
        column[1].set(xlabel="epoch", ylim=(None, 1.005))
        column[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].set_ylabel("training loss")
    axes[1, 0].set_ylabel("validation AUC")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return Drawing(figure, pd.concat(curves) if curves else table)


def transfer(metrics: str | Path, *, detectors: Sequence[str]) -> Drawing:
    """AUC of detectors that know one attack, on each attack, with half the length of its interval."""
    table = tables.read(metrics)
    table = table[(table["protocol"] == "transfer") & (table["population"] == "all")]
    names = [name for name in detectors if name in set(table["detector"])]
    attacks = list(dict.fromkeys(table["case"]))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    side = 0.75 * len(attacks) + 1.1
    figure, axes = plt.subplots(
        rows, columns, figsize=(side * columns, side * rows), squeeze=False, sharex=True, sharey=True
    )
    for panel, name in zip(axes.flat, names, strict=False):
        found = table[table["detector"] == name].pivot(index="case", columns="attack")
        value, low, high = (found[key].loc[attacks, attacks].to_numpy() for key in ("value", "low", "high"))
        # Chance in white, so that what is below it is another colour.
        image = panel.imshow(value, cmap="RdBu", vmin=0, vmax=1)
        for (i, j), auc in np.ndenumerate(value):
            text = f"{auc:.2f}\n± {(high - low)[i, j] / 2:.2f}"
            panel.text(j, i, text, ha="center", va="center", fontsize=7,
                       color="white" if abs(auc - 0.5) > 0.35 else "black")  # fmt: skip
        ticks = range(len(attacks))
        panel.set(title=name, xticks=ticks, yticks=ticks, xticklabels=attacks, yticklabels=attacks)
        panel.tick_params(axis="x", rotation=60)
        panel.spines[:].set_visible(False)
    for panel in axes.flat[len(names) :]:
        panel.set_visible(False)
    figure.supxlabel("tested on", fontsize=9)
    figure.supylabel("trained on", fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.7, label="AUC")
    return Drawing(figure, table[table["detector"].isin(names)])


def shown_attack(outcomes: str | Path, wanted: str | None, stores: Paths) -> str:
    """The attack that the figures show: the one asked for, or the one that hits its target most often.

    Without targets, the one that leaves the least accuracy.

    Parameters
    ----------
    stores
        Of the original and of the attacks alone.
    """
    if wanted:
        return wanted
    table = tables.read(outcomes).set_index("set").loc[[name for name in named(stores) if name != ORIGINAL]]
    hits = table["target_hits"]
    return str(hits.idxmax() if hits.notna().any() else table["accuracy"].idxmin())


def tsne(
    images: str | Path, activations: Paths, references: Paths, outcomes: str | Path, *,
    attack: str | None, size: int, seed: int,
) -> Drawing:  # fmt: skip
    """t-SNE of three classes' reference activations with two originals and one adversarial image.

    At four depths (fig. 2 of the paper). The adversarial image is the first that was right before the attack
    and wrong after it; one original is what it was made from, the other is of the class it is taken for.
    """
    name = shown_attack(outcomes, attack, activations)
    original, attacked = (store.read(named(activations)[s]) for s in (ORIGINAL, name))
    label, before, after = original["label"][:], original["predicted"][:], attacked["predicted"][:]
    fooled = np.flatnonzero((before == label) & (after != label))
    partners = {int(c): np.flatnonzero((label == c) & (before == c)) for c in np.unique(label)}
    chosen = [i for i in fooled if len(partners.get(int(after[i]), ()))]
    if not chosen:
        return _nothing(f"{name} led no image to a class that has originals classified right")
    source = chosen[0]
    true, taken = int(label[source]), int(after[source])
    others = [c for c in partners if c not in (true, taken)]
    classes = [true, taken, *others[:1]]
    every = store.read(images).attrs["classes"]
    names = legible([cut(name, 30) for name in every])
    rows = _reference_rows(references, classes, size, seed)
    layers = list(original.attrs["layers"])
    depths = [layers[i] for i in np.unique(np.linspace(0, len(layers) - 1, 4).round().astype(int))]

    embedded = []
    figure, axes = plt.subplots(1, len(depths), figsize=(2.6 * len(depths), 3.1), squeeze=False)
    for panel, layer in zip(axes.flat, depths, strict=True):
        points = [store.read(path)[layer].oindex[where] for path, where, _ in rows]
        points += [original[layer][:][[source, partners[taken][0]]], attacked[layer][:][[source]]]
        x = StandardScaler().fit_transform(np.concatenate(points))
        perplexity = min(30, (len(x) - 1) / 3)
        # Where nothing varies, there are no principal components to begin with.
        init = "pca" if x.any() else "random"
        flat = TSNE(perplexity=perplexity, init=init, random_state=seed).fit_transform(x)
        belongs = np.concatenate([which for _, _, which in rows])
        kinds = ["reference"] * len(belongs) + ["original", "original of the other class", name]
        of = [every[c] for c in (*belongs, true, taken, true)]
        embedded.append(
            pd.DataFrame({"layer": layer, "image": kinds, "class": of, "x": flat[:, 0], "y": flat[:, 1]})
        )
        for colour, c in zip([BLUE, RED, "0.6"], classes, strict=False):
            members = flat[: len(belongs)][belongs == c]
            panel.scatter(*members.T, s=6, color=colour, alpha=0.45, lw=0, label=f"class {names[c]}")
        marks = (
            (BLUE, "o", f"original of {names[true]}"),
            (RED, "o", f"original of {names[taken]}"),
            (ORANGE, "*", f"{names[true]} attacked, taken for {names[taken]}"),
        )
        for (colour, marker, text), point in zip(marks, flat[len(belongs) :], strict=True):
            panel.scatter(
                *point,
                s=170 if marker == "*" else 60,
                marker=marker,
                color=colour,
                ec="black",
                lw=0.9,
                label=text,
            )
        panel.set(title=layer, xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    handles, texts = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=3, fontsize=8)
    return Drawing(figure, pd.concat(embedded))


def _reference_rows(
    references: Paths, classes: list[int], size: int, seed: int
) -> list[tuple[str | Path, np.ndarray, np.ndarray]]:
    """Up to `size` rows of each class: the shard, the rows in it, and their classes."""
    rows = []
    for path in references:
        label = store.read(path)["label"][:]
        for c in classes:
            members = np.flatnonzero(label == c)
            if len(members):
                taken = seeded(seed, "tsne", c).permutation(members)[:size]
                rows.append((path, np.sort(taken), np.full(len(taken), c)))
    return rows


def layer_path(distances: Paths, outcomes: str | Path, *, attack: str | None) -> Drawing:
    """The detour: distances of the fooling images to the true and to the wrong class, layer by layer.

    Relative to the median distance of the originals to their own class at each layer; median and middle half
    of the images that were right before the attack and wrong after it.
    """
    name = shown_attack(outcomes, attack, distances)
    original, attacked = (store.read(named(distances)[s]) for s in (ORIGINAL, name))
    label, before, after = original["label"][:], original["predicted"][:], attacked["predicted"][:]
    fooled = np.flatnonzero((before == label) & (after != label))
    if not len(fooled):
        return _nothing(f"{name} fooled the classifier on no image")
    layers = list(original.attrs["layers"])
    own = original["distances"][:][np.arange(len(label)), :, label]
    unit = np.median(own[before == label], axis=0)
    # A layer at which every original is its class's medoid has no unit: a gap in the lines.
    unit[unit == 0] = np.nan

    lines = []
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for panel, group, title in (
        (axes[0], original, f"before the attack ({len(fooled)} images)"),
        (axes[1], attacked, f"after {name}"),
    ):
        far = group["distances"][:][fooled]
        for c, colour, text in (
            (label[fooled], BLUE, "to the true class"),
            (after[fooled], RED, "to the class it is taken for after the attack"),
        ):
            relative = far[np.arange(len(c)), :, c] / unit
            low, middle, high = np.quantile(relative, [0.25, 0.5, 0.75], axis=0)
            panel.plot(layers, middle, color=colour, marker="o", ms=3, label=text)
            panel.fill_between(layers, low, high, color=colour, alpha=0.18, lw=0)
            quartiles = {"layer": layers, "low": low, "median": middle, "high": high}
            lines.append(pd.DataFrame({"panel": title, "distance": text, **quartiles}))
        panel.axhline(1, color="0.7", lw=0.8, ls=":")
        panel.set(title=title, xlabel="layer")
        panel.tick_params(axis="x", rotation=60)
    axes[0].set_ylabel("distance to the medoid /\nmedian of originals to their own")
    axes[0].legend(fontsize=8)
    return Drawing(figure, pd.concat(lines))


def samples(
    images: Paths, activations: Paths, outcomes: str | Path, *, attack: str | None, count: int
) -> Drawing:
    """Test images under every attack, with the perturbations enlarged around grey."""
    shown = shown_attack(outcomes, attack, images)
    stored = {name: store.read(path) for name, path in named(images).items()}
    predicted = {name: store.read(path)["predicted"][:] for name, path in named(activations).items()}
    sets = list(stored)
    label, classes = stored[ORIGINAL]["label"][:], stored[ORIGINAL].attrs["classes"]
    # Their fonts, before there are axes, which keep those that they begin with.
    legible(classes)
    right = predicted[ORIGINAL] == label
    # Fooled ones first, of different classes as far as there are any.
    order = np.lexsort((np.arange(len(label)), ~(right & (predicted[shown] != label))))
    _, first = np.unique(label[order], return_index=True)
    preferred = np.concatenate([order[np.sort(first)], order])
    rows = list(dict.fromkeys(preferred.tolist()))[:count]

    attacks = sets[1:]
    figure, axes = plt.subplots(
        len(rows), 1 + 2 * len(attacks), squeeze=False,
        figsize=(1.15 * (1 + 2 * len(attacks)), 1.35 * len(rows) + 0.5),
    )  # fmt: skip
    for panels, i in zip(axes, rows, strict=True):
        before = stored[ORIGINAL]["images"][i]
        _image(panels[0], before, _verdict(predicted[ORIGINAL][i], label[i], NO_TARGET, classes))
        for j, name in enumerate(attacks):
            after, target = stored[name]["images"][i], stored[name]["target"][i]
            moved = after.astype(float) - before
            largest = max(np.abs(moved).max(), 1)
            _image(
                panels[1 + 2 * j],
                (127.5 + moved * 127.5 / largest).astype(np.uint8),
                (f"\N{MULTIPLICATION SIGN} {127.5 / largest:.0f}", "0.4"),
            )
            _image(panels[2 + 2 * j], after, _verdict(predicted[name][i], label[i], target, classes))
    for j, name in enumerate(sets):
        axes[0][2 * j].set_title(name, fontsize=8)
    shown_images = [
        {"image": i, "set": name, "class": classes[label[i]], "predicted": classes[predicted[name][i]]}
        for i in rows
        for name in sets
    ]
    return Drawing(figure, pd.DataFrame(shown_images))


def _image(axes: Axes, pixels: np.ndarray, caption: tuple[str, str]) -> None:
    axes.imshow(pixels.transpose(1, 2, 0), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    text, colour = caption
    # As wide as the image. Lines of a name first, and then what no font has, so that none cuts an escape.
    lines = legible(wrap(text, 19, replace_whitespace=False))
    axes.set_xlabel("\n".join(lines), color=colour, fontsize=7, labelpad=2)


def _verdict(predicted: int, label: int, target: int, classes: Sequence[str]) -> tuple[str, str]:
    """What the classifier takes an image for: green if right, red if the attack's target, else blue."""
    # Some of ImageNet's classes have long names.
    name = cut(classes[predicted], 40)
    if predicted == label:
        return name, TEAL
    return (f"{name} (target)", RED) if predicted == target else (name, BLUE)


def adaptive(table: str | Path, adapted: Paths) -> Drawing:
    """What an attacker who knows classifier and detector achieves by every method, a row for each detector.

    Left, for each eps, the share of images that are taken for what was wanted and not flagged, with Wilson's
    95 % interval, and dashed the share that are taken for what was wanted; of the images of all folds. Right,
    the means of both losses at the middle eps.

    Parameters
    ----------
    table, adapted
        As written by `detour.adaptive`.
    """
    by = ["detector", "method", "eps"]
    counts = tables.read(table).drop(columns="fold").groupby(by, sort=False).sum()
    courses = _courses(adapted)
    names = list(counts.index.unique("detector"))
    figure = plt.figure(figsize=(9, 3.9 * len(names)))
    for part, name in zip(figure.subfigures(len(names), squeeze=False).flat, names, strict=True):
        part.suptitle(name)
        _evasion(part, counts.loc[name], courses.loc[name])
    # Outside: a curve below would be an attack that fails, which is not to be missed.
    handles, texts = figure.subfigs[0].axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=len(texts), fontsize=8)
    steps = courses.rename_axis(index=by, columns=["loss", "step"])
    losses = steps.stack("step", future_stack=True).reset_index()
    return Drawing(figure, pd.concat([_shares(counts).reset_index(), losses]))


def _shares(counts: pd.DataFrame) -> pd.DataFrame:
    """Counts with the shares that are drawn of them, and Wilson's interval."""
    ends = [wilson(row.evaded, row.images) for row in counts.itertuples()]
    low, high = zip(*ends, strict=True)
    return counts.assign(share=counts["evaded"] / counts["images"], low=low, high=high)


def _evasion(figure: SubFigure, counts: pd.DataFrame, courses: pd.DataFrame) -> None:
    """A detector's row, by method and eps."""
    axes: dict[str, Axes] = figure.subplot_mosaic(
        [["share", "classification"], ["share", "detection"]], width_ratios=[1.15, 1]
    )
    methods = list(counts.index.unique("method"))
    budgets = sorted(counts.index.unique("eps"))
    # Evenly spaced: budgets double and may include 0.
    where, middle = np.arange(len(budgets)), budgets[len(budgets) // 2]
    for i, (method, colour, marker) in enumerate(zip(methods, CYCLE, "osD^", strict=False)):
        rows = counts.loc[method].loc[budgets]
        low, high = np.array([wilson(r.evaded, r.images) for r in rows.itertuples()]).T
        # Apart, so that no interval hides another.
        x = where + 0.09 * (i - (len(methods) - 1) / 2)
        style = {"color": colour, "marker": marker, "ms": 4, "label": method}
        axes["share"].plot(x, rows["evaded"] / rows["images"], **style)
        axes["share"].vlines(x, low, high, color=colour, lw=1, alpha=0.6)
        axes["share"].plot(x, rows["succeeded"] / rows["images"], color=colour, lw=0.8, ls="--")
        for loss in ("classification", "detection"):
            axes[loss].plot(courses.loc[(method, middle), loss], color=colour)
    axes["share"].set(
        title="taken for what was wanted and not flagged", xlabel="eps, pixels of 255",
        ylabel="share of images", xticks=where, xticklabels=budgets, ylim=(-0.02, 1.02),
    )  # fmt: skip
    axes["share"].plot([], [], color="0.3", lw=0.8, ls="--", label="taken for what was wanted")
    axes["detection"].axhline(0, color="0.7", lw=0.8, ls=":")
    axes["classification"].set(title=f"losses at eps {middle}", ylabel="classification")
    axes["classification"].tick_params(labelbottom=False)
    axes["detection"].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes["detection"].set(xlabel="step", ylabel="detection score\nabove the threshold")
    figure.align_ylabels([axes["classification"], axes["detection"]])


def _courses(adapted: Paths) -> pd.DataFrame:
    """Mean losses over the images of all folds: rows detector, method, eps; columns kind of loss, step."""
    parts = []
    for path in adapted:
        found = store.read(path)
        rows = pd.MultiIndex.from_product(
            [[found.attrs["detector"]], [found.attrs["method"]], found["eps"][:]]
        )
        losses = {
            "classification": found["classification"][:],
            "detection": found["detection"][:] - found.attrs["threshold"],
        }
        parts.append(pd.concat({loss: pd.DataFrame(c, rows) for loss, c in losses.items()}, axis=1))
    return pd.concat(parts).groupby(level=[0, 1, 2]).mean()


def strengths(
    metrics: str | Path, outcomes: str | Path, *,
    groups: Sequence[Sequence[tuple[str, float]]], detectors: Sequence[str], fpr: float,
) -> Drawing:  # fmt: skip
    """What each attack does against its strength, and how much of it detectors that know it find.

    Black, the share of the images that were right that it fools; in colour, with its interval, the share of
    all its images that a detector flags at the threshold.

    Parameters
    ----------
    groups
        For every attack its sets, each with its budget in pixels of 255, weakest first.
    fpr
        Wanted false positive rate of the threshold.
    """
    table, done = tables.read(metrics), tables.read(outcomes).set_index("set")["successful"]
    flagged = table[
        (table["protocol"] == "known") & (table["measure"] == f"tpr@{fpr}")
        & (table["population"] == "all") & (table["originals"] == "all")
    ].set_index(["detector", "attack"])  # fmt: skip
    curves = []
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(1 + 3.2 * columns, 0.6 + 3 * rows), sharey=True, squeeze=False
    )
    for axes in panels.flat[len(groups) :]:
        axes.remove()
    for axes, group in zip(panels.flat, groups, strict=False):
        names, budgets = map(list, zip(*group, strict=True))
        # Evenly spaced: budgets double.
        where = np.arange(len(names))
        axes.plot(where, done.loc[names], color="0.2", marker="o", ms=4, label="fooled by it")
        about = {"attack": names, "eps": budgets}
        curves.append(pd.DataFrame({"curve": "fooled by it", **about, "value": done.loc[names].to_numpy()}))
        for name, colour in zip(detectors, cycle(CYCLE), strict=False):
            found = flagged.loc[name].loc[names]
            axes.errorbar(
                where, found["value"], yerr=_errors(found), color=colour, fmt="s-", ms=3, lw=1, label=name
            )
            values = {key: found[key].to_numpy() for key in ("value", "low", "high")}
            curves.append(pd.DataFrame({"curve": name, **about, **values}))
        if flagged["value"].isna().all():
            axes.text(
                0.5, 0.5, "no threshold: too few\nvalidation originals", ha="center", transform=axes.transAxes
            )
        axes.set(
            title=names[0].rpartition("-")[0] or names[0], xlabel="eps, pixels of 255", ylim=(-0.02, 1.02),
            xticks=where, xticklabels=[f"{eps:g}" for eps in budgets],
        )  # fmt: skip
    for axes in panels[:, 0]:
        axes.set_ylabel("share of images")
    handles, texts = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=min(len(texts), 4), fontsize=8)
    return Drawing(figure, pd.concat(curves))


def controls(metrics: str | Path, summary: str | Path, *, fpr: float) -> Drawing:
    """What each detector finds of attacks, against what it flags of harmless damage, each where it is worst.

    Up, the share of successful images of the attack of which it finds least; along, the share of harmless
    images of the control of which it flags most; both with intervals, at the threshold.

    Parameters
    ----------
    fpr
        Wanted false positive rate of the threshold.
    """
    table, counted = tables.read(metrics), tables.read(summary)
    found = table[
        (table["measure"] == f"tpr@{fpr}") & (table["population"] == "successful")
        & (table["originals"] == ALL) & (table["attack"] != ALL)
    ].dropna(subset="value")  # fmt: skip
    many = found[found["images"] >= FEW]
    least = (many if len(many) else found).sort_values("value").drop_duplicates(["detector", "protocol"])
    damage = counted[(counted["measure"] == f"worst_control@{fpr}") & (counted["population"] == "harmless")]
    both = least.merge(damage, on=["detector", "protocol"], suffixes=("", "_control")).dropna(
        subset="value_control"
    )
    if both.empty:
        return _nothing("no threshold, as there are too few validation originals, or nothing to count")
    figure, axes = plt.subplots(figsize=(5.2, 4.6))
    axes.axvline(fpr, color="0.7", lw=0.8, ls=":")
    colours = dict(zip(counted["detector"].unique(), cycle(CYCLE), strict=False))
    for row in both.to_dict("records"):
        up = pd.DataFrame([row])
        along = up[[f"{name}_control" for name in ("value", "low", "high")]]
        known, colour = row["protocol"] == "known", colours[row["detector"]]
        axes.errorbar(
            row["value_control"], row["value"],
            xerr=_errors(along.rename(columns=lambda name: name.removesuffix("_control"))), yerr=_errors(up),
            color=colour, fmt="o" if known else "D", mfc=colour if known else "white", ms=5, lw=1,
            label=f"{row['detector']}, {row['protocol']} ({row['cell']}, {row['attack']})",
        )  # fmt: skip
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02),
        xlabel="flagged of the worst control's harmless images",
        ylabel="found of the worst attack's successful images",
    )  # fmt: skip
    figure.legend(loc="outside lower center", ncols=2, fontsize=7)
    return Drawing(figure, both)


def _nothing(why: str) -> Drawing:
    figure = plt.figure(figsize=(5, 1))
    figure.text(0.5, 0.5, f"nothing to show: {why}", ha="center", va="center")
    return Drawing(figure, pd.DataFrame({"nothing to show": [why]}))


# A new figure is one function and one line here, and one rule.
FIGURES: dict[str, Callable[..., Drawing]] = {
    "intervals": intervals,
    "histories": histories,
    "roc": roc,
    "roc-attacks": roc_attacks,
    "transfer": transfer,
    "tsne": tsne,
    "path": layer_path,
    "samples": samples,
    "adaptive": adaptive,
    "strengths": strengths,
    "controls": controls,
}

# In a module of its own, which needs what scores images: others are not drawn again where that changes.
ELSEWHERE = {"explained": "detour.pictures:explained"}


def draw(name: str, svg: str | Path, pdf: str | Path, inputs: dict[str, Any], **settings: Any) -> None:
    """Draw a figure, write it twice, and its data as CSV beside the SVG.

    Parameters
    ----------
    name
        One of `FIGURES` or `ELSEWHERE`.
    inputs, settings
        Its arguments: paths, and the rest.
    """
    mpl.use("agg")
    each = ([value] if isinstance(value, str | Path) else value for value in inputs.values())
    # A bundle is a folder, which has digests of its own.
    store.lineage(path for paths in each for path in paths if Path(path).is_file())
    with mpl.rc_context(STYLE):
        drawing = methods.loaded(ELSEWHERE[name]) if name in ELSEWHERE else FIGURES[name]
        figure, data = drawing(**inputs, **settings)
        for path in (svg, pdf):
            save(figure, path, name)
        plt.close(figure)
    with written(Path(svg).with_suffix(".csv")) as part:
        # Names of files may be no text; those are written as Python escapes them.
        data.to_csv(part, index=False, errors="backslashreplace")


# What a format says of when it was made; the same figure is the same bytes.
DATES = {".svg": "Date", ".pdf": "CreationDate"}


def save(figure: Figure, path: str | Path, title: str) -> None:
    """Write a figure in the format that the ending of the path names.

    In SVG, what `legible` wrote out is text again: the fonts are those of the reader's machine.

    Parameters
    ----------
    title
        The report looks for it, so that no figure stands in another's place.
    """
    date = DATES.get(Path(path).suffix)
    with written(path) as part:
        figure.savefig(part, metadata={"Title": title} | ({date: None} if date else {}), dpi=200)
        if date == "Date":
            part.write_text(_named(part.read_text("utf-8")), "utf-8")


def _named(svg: str) -> str:
    """Escapes of characters that an SVG can hold, as these; of others, such as of control, as they are."""
    ours = get_font(findfont("DejaVu Sans")).get_charmap()

    def character(escape: re.Match[str]) -> str:
        # Above the last code point there is none.
        c = chr(code) if (code := int(escape[1] or escape[2], 16)) <= 0x10FFFF else ""
        # A name that has a backslash itself, before a letter that ours has, was never escaped.
        return c if c.isprintable() and c and ord(c) not in ours else escape[0]

    return re.sub(r"\\(?:u([0-9a-f]{4})|U([0-9a-f]{8}))", character, svg)
