"""Metrics: what the scores and the predictions amount to, and how well that is known."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from detour import tables
from detour.areas import beaten, beaten_high
from detour.errors import InputError
from detour.logs import progress
from detour.protocols import ALL
from detour.seeds import draw
from detour.spelling import listed
from detour.store import ORIGINAL, Made

logger = logging.getLogger(__name__)

# Where the ROC of the folds is read off to be averaged.
FALSE_POSITIVE_RATES = np.linspace(0, 1, 501)

# Of the false positive rate, in the partial AUC.
PARTIAL = 0.05

# Of an interval: 95 %.
QUANTILES = (0.025, 0.975)

# Which attacked images count as positives, and which genuine ones as negatives.
POPULATIONS = ("all", "successful", "hit", "failed")
ORIGINALS = ("all", "right")

# Which images of a control count, by the column of the verdicts that says so: all, those that are classified
# right before and after the change, and those that are so before it alone.
CONTROLS = {"all": "", "harmless": "failed", "harmful": "successful"}

# Fewer images than this are few: their cell is marked, and is not named the worst beside others of more. Of a
# half of ten, Wilson's interval is still from 0.24 to 0.76.
FEW = 10

# How often each source of a fold stands in each sample: float64 [B, n] of the fold and its sources.
Drawn = Callable[[int, np.ndarray], np.ndarray]

# Samples that differ by less are the same but for the order of their sums.
WIDTH = 1e-9

# The populations of the summary and of the matrix of `transfer`.
SHOWN = ("all", "successful")


def mean_roc(scores: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mean over folds and seeds of the true positive rate, and its deviation, at `FALSE_POSITIVE_RATES`."""
    curves = []
    for _, fold in scores.groupby(["seed", "fold"]):
        fpr, tpr, _ = roc_curve(fold["adversarial"], fold["score"])
        curve = np.interp(FALSE_POSITIVE_RATES, fpr, tpr)
        curve[0] = 0
        curves.append(curve)
    return np.mean(curves, axis=0), np.std(curves, axis=0, ddof=1)


def wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    low, high = binomtest(int(count), of).proportion_ci(method="wilson")
    return low, high


def threshold(scores: np.ndarray, fpr: float) -> float:
    """The score above which an image is flagged, so that genuine ones are at most at that rate.

    Split conformal (Vovk et al. 2005): the ceil((n + 1)(1 - fpr))-th smallest of n genuine images' scores;
    infinity where that is more than n, for so few images can promise nothing.

    Parameters
    ----------
    scores : float64 [n]
        Of genuine images that the detector was not trained on.
    """
    # As the decimal that was written: 1 - 0.05 and products of it are off by a rounding, and so the rank.
    rank = ceil((len(scores) + 1) * (1 - Fraction(str(fpr))))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else np.inf


def resampled(count: int, draws: int, seed: int, fold: int) -> np.ndarray:
    """How often each source stands in each sample: the sources as they are, then `draws` bootstrap samples.

    Returns
    -------
    float64 [1 + draws, count]
    """
    rng = draw(seed, "bootstrap", fold)
    return np.vstack([np.ones(count), rng.multinomial(count, np.full(count, 1 / count), size=draws)])


def flagged(scores: np.ndarray, limit: float) -> np.ndarray:
    """Whether images are above the `threshold`, float64 [n]; NaN where too few promise any."""
    return (scores > limit).astype(float) if np.isfinite(limit) else np.full(len(scores), np.nan)


def mean_of(values: np.ndarray, weights: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Means over groups of images in each sample.

    Parameters
    ----------
    values : float64 [n] or [B, n]
    weights : float64 [B, n]
        How often each image stands in each sample.
    members : bool [n, G]

    Returns
    -------
    float64 [G, B]
        NaN where a sample has none of a group.
    """
    with np.errstate(invalid="ignore"):
        return (members.T @ (weights * values).T) / (members.T @ weights.T)


def precision(tpr: np.ndarray, fpr: np.ndarray, base_rate: float) -> np.ndarray:
    """Share of flagged images that are adversarial where one in 1 / base_rate is (Bayes); NaN if none is."""
    true, false = base_rate * tpr, (1 - base_rate) * fpr
    return np.divide(true, true + false, out=np.full_like(true, np.nan), where=true + false > 0)


class Measured(NamedTuple):
    """A row of the tables.

    Attributes
    ----------
    key
        What it is.
    samples : float64 [1 + draws]
        Its value as seen, then in every bootstrap sample.
    points : float64 [K]
        Its value as seen in each fold.
    images
        How many test images count, over all folds: an image and all its versions are one.
    ends
        Its interval, where the samples have no width; None: that of the samples.
    """

    key: dict[str, Any]
    samples: np.ndarray
    points: np.ndarray
    images: int
    ends: tuple[float, float] | None = None


class _Cell(NamedTuple):
    """What is measured in a fold: of those images of an attack, against those originals."""

    attack: str
    originals: str
    population: str
    measure: str


def evaluate(
    scores: pd.DataFrame, verdicts: pd.DataFrame, *,
    draws: int, fpr: Sequence[float], base_rate: float, seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Every measure of every detector, and of each the little that counts, with intervals.

    Scores of different folds are of different models: what is measured in every fold is averaged over folds
    and seeds. Intervals are percentiles of a bootstrap over source images (Efron and Tibshirani 1993), less
    its bias: in every fold its sources are drawn anew, with all their versions, and the same ones for all
    detectors, so that differences are paired. They do not hold what other images in training and validation
    would change. Where a rate is 0 or 1 in every fold, all samples are alike and say nothing: its interval is
    Wilson's, over the source images, and that of the precision is from the least to the most that both rates
    allow.

    Parameters
    ----------
    scores
        As `detour.detectors.evaluate` writes them, of all detectors; differences are from the first.
    verdicts
        As `detour.verdicts.judged` has them.
    draws
        Bootstrap samples.
    fpr
        Wanted false positive rates; each sets a `threshold` on the genuine images of the validation, or none
        if that of some fold has too few.
    base_rate
        Share of adversarial images for the precision.

    Returns
    -------
    metrics : DataFrame
        detector, protocol, case, attack (`all`: together), originals and population (see `ORIGINALS` and
        `POPULATIONS`), measure (`auc`; `partial_auc` below `PARTIAL`; for each wanted rate a `fpr@a`, which
        was realised, `tpr@a` and `precision@a`), value, std (over folds), low, high (95 %), difference,
        difference_low, difference_high, folds, seeds, images (that count, attacked ones but for `fpr@a`).
    summary : DataFrame
        The same of two measures: `auc` (of `known`, all attacks together; else the mean of the cells, which
        in `transfer` are those of attacks other than the known one), and `worst`, the least of the cells,
        whose name is in `cell`; of those with `FEW` images or more, if there are any. The images of a mean
        are those of the cell that has the fewest. Where there are controls, for each wanted rate also
        `controls@a`, the mean share of their images that is flagged, and `worst_control@a`, the most.

    Raises
    ------
    ValueError
        If a score is not finite, stands twice or is missing, or an image has no verdict: none of these has a
        place in a ranking.
    """
    _refuse_incomplete(scores, verdicts)

    def drawn(fold: int, sources: np.ndarray) -> np.ndarray:
        return resampled(len(sources), draws, seed, fold)

    # Where there is nothing to be averaged, NaN is the answer.
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        measured = _everything(scores, verdicts, drawn, fpr, base_rate)
        metrics = _described(measured, ["detector", "seeds"])
        return metrics, _described(_summarised(measured), ["detector", "seeds", "cell"])


def sampled(scores: pd.DataFrame, verdicts: pd.DataFrame, drawn: Drawn) -> list[Measured]:
    """The `auc` and `worst` of the summary in samples that are drawn elsewhere, as for another run.

    Parameters
    ----------
    scores, verdicts
        As of `evaluate`.
    drawn
        How often each source of a fold's test stands in each sample, ascending by source.
    """
    _refuse_incomplete(scores, verdicts)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        return _summarised(_everything(scores, verdicts, drawn, (), 0.5))


def difference(row: Measured, other: Measured) -> tuple[float, float, float]:
    """The value of a row less that of another, and its interval, by the samples of both."""
    differs = row.samples - other.samples
    return float(differs[0]), *_interval(differs, _shifted(row), least=-1)


# What a score is of, besides its image.
FITTED = ["detector", "protocol", "case", "seed", "fold"]


def _refuse_incomplete(scores: pd.DataFrame, verdicts: pd.DataFrame) -> None:
    """Refuse scores that could not be ranked, or would be in fewer numbers than there are images."""
    version = [*FITTED, "role", "set", "source"]
    per_set = [*FITTED, "role", "set"]
    counts = scores.groupby(per_set, sort=False)["source"].transform("size")
    most = scores.assign(count=counts).groupby([*FITTED, "role"], sort=False)["count"].transform("max")
    known = pd.MultiIndex.from_frame(verdicts[["set", "source"]])
    tested = (scores["role"] == "test").to_numpy()
    judged = pd.MultiIndex.from_frame(scores[["set", "source"]]).isin(known)
    problems = {
        "is not finite": ~np.isfinite(scores["score"].to_numpy(float)),
        "stands twice": scores.duplicated(version).to_numpy(),
        "stands in a set that has fewer scores than another of its fold": (counts < most).to_numpy(),
        "is of an image that has no verdict": tested & ~judged,
    }
    for problem, wrong in problems.items():
        if wrong.any():
            first = scores[wrong].iloc[0]
            about = ", ".join(f"{name} {first[name]}" for name in version)
            raise InputError(
                f"scores: {wrong.sum()} of {len(scores)} cannot be ranked: the score {first['score']} of"
                f" {about} {problem}; delete the folder of this detector under detectors/ and run again"
            )
    for (detector, protocol, case), part in scores.groupby(FITTED[:3], sort=False):
        trainings, seeds, folds = (
            len(part[key].drop_duplicates()) for key in (["seed", "fold"], "seed", "fold")
        )
        if trainings != seeds * folds:
            raise InputError(
                f"scores: {detector}, {protocol} {case}: found {trainings} trainings of {seeds} seeds and"
                f" {folds} folds, expected one each; run again"
            )


def _everything(
    scores: pd.DataFrame,
    verdicts: pd.DataFrame,
    drawn: Drawn,
    fpr: Sequence[float],
    base_rate: float,
) -> list[Measured]:
    facts = {name: of_set.set_index("source") for name, of_set in verdicts.groupby("set", sort=False)}
    weights: dict[int, np.ndarray] = {}
    measured: list[Measured] = []
    grouped = scores.groupby(["detector", "protocol", "case"], sort=False)
    changed = scores[(scores["adversarial"] == 0) & (scores["set"] != ORIGINAL)]["set"].unique()
    for (detector, protocol, case), part in progress(grouped, grouped.ngroups, "detectors and cases"):
        found: dict[_Cell, list[np.ndarray]] = {}
        # By fold, for another seed has the same images; none where the fold does not count.
        images: dict[_Cell, dict[int, int]] = {}
        # A rate that one fold has too few originals for is told of none: else it would be of few images.
        fewest = (part["role"] == "validation").groupby([part["seed"], part["fold"]]).sum().min()
        told = {wanted: np.isfinite(threshold(np.zeros(fewest), wanted)) for wanted in fpr}
        if protocol == "transfer":
            told = {}
        for (_, fold), one in part.groupby(["seed", "fold"]):
            test = one[one["role"] == "test"].pivot(index="source", columns="set", values="score")
            controls = [name for name in changed if name in test.columns]
            genuine = one["score"][one["role"] == "validation"].to_numpy()
            if fold not in weights:
                weights[fold] = drawn(fold, test.index.to_numpy())
            limits = {rate: threshold(genuine, rate) if every else np.inf for rate, every in told.items()}
            for cell, values, count in _measured(
                test, facts, weights[fold], limits, controls, auc_only=protocol == "transfer"
            ):
                found.setdefault(cell, []).append(values)
                images.setdefault(cell, {})[fold] = 0 if np.isnan(values[0]) else count
        shape = part["seed"].nunique(), part["fold"].nunique(), -1
        key = {"detector": detector, "protocol": protocol, "case": case}
        averaged = {
            c: _averaged(key | c._asdict(), np.reshape(v, shape), sum(images[c].values()))
            for c, v in found.items()
        }
        measured += [*averaged.values(), *_precisions(averaged, base_rate)]
    return measured


def _measured(
    test: pd.DataFrame, facts: Mapping[str, pd.DataFrame], weights: np.ndarray,
    limits: Mapping[float, float], controls: Sequence[str], *, auc_only: bool,
) -> Iterator[tuple[_Cell, np.ndarray, int]]:  # fmt: skip
    """Every measure of one detector on a fold's test images, in every sample: float64 [B]; of how many.

    Parameters
    ----------
    test
        Scores, a row per source and a column per set.
    facts
        Verdicts by set, indexed by source.
    weights : float64 [B, n]
    limits
        Thresholds by the false positive rate that is wanted.
    controls
        Sets that are genuine, but changed.
    auc_only
        Of each attack alone.
    """
    negative, right = test[ORIGINAL].to_numpy(), facts[ORIGINAL]["right"].reindex(test.index).to_numpy()
    genuine = dict(zip(ORIGINALS, (np.ones_like(right), right), strict=True))
    for wanted, limit in limits.items():
        rates = mean_of(flagged(negative, limit), weights, np.column_stack([*genuine.values()]))
        for originals, found in zip(genuine, rates, strict=True):
            yield _Cell(ORIGINAL, originals, "all", f"fpr@{wanted}"), found, int(genuine[originals].sum())

    for name in controls:
        of_it = facts[name].reindex(test.index).assign(all=True)
        counted = np.column_stack([of_it[column or "all"].to_numpy(bool) for column in CONTROLS.values()])
        for wanted, limit in limits.items():
            rates = mean_of(flagged(test[name].to_numpy(), limit), weights, counted)
            for population, found, count in zip(CONTROLS, rates, counted.sum(0), strict=True):
                yield _Cell(name, "all", population, f"fpr@{wanted}"), found, int(count)

    attacks = [n for n in facts if n in test.columns and n != ORIGINAL and n not in controls]
    if not attacks:
        return
    positive, its_weights = test[attacks].to_numpy().T.ravel(), np.tile(weights, len(attacks))
    groups = _groups(test, facts, attacks, auc_only)
    counts = groups.to_numpy().reshape(len(attacks), len(test), -1).any(axis=0).sum(axis=0)

    def cells(values: np.ndarray, originals: str, measure: str) -> Iterator[tuple[_Cell, np.ndarray, int]]:
        means = mean_of(values, its_weights, groups.to_numpy())
        for (attack, population), found, count in zip(groups.columns, means, counts, strict=True):
            yield _Cell(attack, originals, population, measure), found, int(count)

    for originals in ("all",) if auc_only else ORIGINALS:
        against = negative[genuine[originals]], weights[:, genuine[originals]], positive
        yield from cells(beaten(*against), originals, "auc")
        if originals == "all" and not auc_only:
            yield from cells(beaten_high(*against, PARTIAL), originals, "partial_auc")
            for wanted, limit in limits.items():
                yield from cells(flagged(positive, limit), originals, f"tpr@{wanted}")


def _groups(
    test: pd.DataFrame, facts: Mapping[str, pd.DataFrame], attacks: Sequence[str], auc_only: bool
) -> pd.DataFrame:
    """Which attacked images count: bool, a row per attack and source, a column per attack and population."""
    population = pd.concat([facts[name].reindex(test.index) for name in attacks]).assign(all=True)
    of = np.repeat(attacks, len(test))
    together = [ALL] if len(attacks) > 1 and not auc_only else []
    return pd.DataFrame({
        (attack, name): population[name].to_numpy(bool) & ((attack == ALL) | (of == attack))
        for attack in (*together, *attacks)
        for name in (SHOWN if auc_only else POPULATIONS)
    })  # fmt: skip


def _precisions(averaged: Mapping[_Cell, Measured], base_rate: float) -> Iterator[Measured]:
    """Of every true positive rate, with the false positive rate at the same threshold."""
    for cell, true in averaged.items():
        if cell.measure.startswith("tpr@"):
            wanted = cell.measure.removeprefix("tpr@")
            false = averaged[_Cell(ORIGINAL, cell.originals, "all", f"fpr@{wanted}")]
            (true_low, true_high), (false_low, false_high) = _ends(true), _ends(false)
            rates = (
                (true.samples, false.samples),
                (true.points, false.points),
                (np.array([true_low, true_high]), np.array([false_high, false_low])),
            )
            samples, points, (low, high) = (precision(t, f, base_rate) for t, f in rates)
            key = true.key | {"measure": f"precision@{wanted}"}
            # Of rates that have width and are the same in every sample, so is the precision, and rightly.
            ends = (low, high) if _flat(true.samples) or _flat(false.samples) else None
            yield Measured(key, samples, points, true.images, ends)


def _averaged(key: dict[str, Any], values: np.ndarray, images: int) -> Measured:
    """Over seeds and folds of [seeds, folds, B]; a fold without such images does not count."""
    samples, points = np.nanmean(values, axis=(0, 1)), np.nanmean(values[:, :, 0], axis=0)
    # Of an area there is none: its images are in two samples, and it is told that it has no width.
    share = key["measure"].startswith(("fpr@", "tpr@")) and not np.isnan(samples[0])
    ends = wilson(round(samples[0] * images), images) if share else None
    key = key | {"seeds": values.shape[0], "folds": values.shape[1]}
    return Measured(key, samples, points, images, ends)


def _summarised(measured: Sequence[Measured]) -> list[Measured]:
    """The AUC and the worst cell of every detector, protocol and population, and those of the controls."""
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for row in measured:
        if row.key["measure"] == "auc" and row.key["originals"] == "all":
            group = tuple(row.key[name] for name in ("detector", "protocol", "population"))
            groups.setdefault(group, []).append(row)
    found = []
    for (detector, protocol, population), rows in groups.items():
        if population not in SHOWN:
            continue
        pooled = [row for row in rows if row.key["attack"] == ALL]
        cells = [row for row in rows if row.key["attack"] != ALL]
        if protocol == "transfer":
            cells = [row for row in cells if row.key["attack"] != row.key["case"]]
        many = [row for row in cells if row.images >= FEW] or cells
        worst = min(many, key=lambda row: np.nan_to_num(row.samples[0], nan=np.inf))
        key = {"detector": detector, "protocol": protocol, "population": population}
        for measure, of in (("auc", pooled or cells), ("worst", [worst])):
            # What is known, where that tells anything, and what is tested.
            case, attack = of[0].key["case"], of[0].key["attack"]
            one = attack if case in (ALL, attack) else f"{case} > {attack}"
            cell = one if len(of) == 1 else "mean"
            samples = np.nanmean([row.samples for row in of], axis=0)
            points = np.nanmean([row.points for row in of], axis=0)
            about = {"measure": measure, "cell": cell, **{n: of[0].key[n] for n in ("seeds", "folds")}}
            images = min((row.images for row in of if row.images), default=0)
            found.append(Measured(key | about, samples, points, images))
    return [*found, *_controls(measured)]


def _controls(measured: Sequence[Measured]) -> Iterator[Measured]:
    """The mean share of the controls that is flagged, and the most, of every detector and protocol."""
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for row in measured:
        if row.key["measure"].startswith("fpr@") and row.key["attack"] != ORIGINAL:
            names = ("detector", "protocol", "population", "measure")
            groups.setdefault(tuple(row.key[name] for name in names), []).append(row)
    for (detector, protocol, population, measure), rows in groups.items():
        if population == "harmful":
            continue
        many = [row for row in rows if row.images >= FEW] or rows
        worst = max(many, key=lambda row: np.nan_to_num(row.samples[0], nan=-np.inf))
        wanted = measure.removeprefix("fpr@")
        for name, of in (("controls", rows), ("worst_control", [worst])):
            samples = np.nanmean([row.samples for row in of], axis=0)
            points = np.nanmean([row.points for row in of], axis=0)
            images = min((row.images for row in of if row.images), default=0)
            told = not np.isnan(samples[0]) and images
            yield Measured(
                {
                    "detector": detector, "protocol": protocol, "population": population,
                    "measure": f"{name}@{wanted}", "cell": of[0].key["attack"] if len(of) == 1 else "mean",
                    **{n: of[0].key[n] for n in ("seeds", "folds")},
                },
                samples, points, images, wilson(round(samples[0] * images), images) if told else None,
            )  # fmt: skip


def _described(measured: Sequence[Measured], unlike: Sequence[str]) -> pd.DataFrame:
    """A row each, with intervals and the difference from the first detector's row of the same key.

    Parameters
    ----------
    unlike
        Columns of the key that rows to be compared may differ in.
    """
    first = measured[0].key["detector"]

    def alike(row: Measured) -> tuple[Any, ...]:
        return tuple(value for name, value in row.key.items() if name not in unlike)

    compared = {alike(row): row for row in measured if row.key["detector"] == first}
    rows = []
    for row in measured:
        low, high = _ends(row)
        found = {"value": row.samples[0], "std": np.nanstd(row.points, ddof=1), "low": low, "high": high}
        # The first detector has none; with one detector, the columns are there all the same.
        found |= dict.fromkeys(("difference", "difference_low", "difference_high"), np.nan)
        if row.key["detector"] != first and alike(row) in compared:
            differs = difference(row, compared[alike(row)])
            found |= zip(("difference", "difference_low", "difference_high"), differs, strict=True)
        rows.append(row.key | found | {"images": row.images})
    return pd.DataFrame(rows)


def _flat(samples: np.ndarray) -> bool:
    """Whether the bootstrap samples are all the same."""
    drawn = samples[1:][~np.isnan(samples[1:])]
    return len(drawn) > 0 and bool(np.ptp(drawn) <= WIDTH)


def _shifted(row: Measured) -> bool:
    """Whether the bias is taken off."""
    # A ratio of rates is skewed: to shift its samples would be no correction.
    return not row.key["measure"].startswith("precision@")


def _ends(row: Measured) -> tuple[float, float]:
    """The interval of a row: of its samples, or where these have no width what stands in for them."""
    low, high = _interval(row.samples, _shifted(row), least=0)
    if row.ends is None or not _flat(row.samples):
        return low, high
    # What stands in is of all images together; the value is a mean of folds, which may be of other sizes.
    return min(low, row.ends[0]), max(high, row.ends[1])


def _interval(samples: np.ndarray, shifted: bool, least: float) -> tuple[float, float]:
    """Of shares, or of their differences: within their bounds, which a shift may leave."""
    drawn = samples[1:][~np.isnan(samples[1:])]
    if not len(drawn):
        return np.nan, np.nan
    # An image drawn twice adds pairs of its own versions. Duplicates shift the AUC of every sample equally:
    # the shift is bias, not uncertainty.
    ends = np.quantile(drawn, QUANTILES) - shifted * (drawn.mean() - samples[0])
    low, high = np.clip(ends, least, 1)
    return float(low), float(high)


def unsure(summary: pd.DataFrame) -> str:
    """What to say of AUCs whose interval has no width for want of images; empty if there are none.

    Parameters
    ----------
    summary
        As `evaluate` has it.
    """
    areas = summary["measure"].isin(["auc", "worst"])
    flat = summary[areas & (summary["images"] < FEW) & (summary["high"] - summary["low"] <= WIDTH)]
    if flat.empty:
        return ""
    found = [
        f"{row.detector}/{row.protocol}/{row.population}/{row.cell}: {row.value:.3f} of {row.images}"
        for row in flat.drop_duplicates(["detector", "protocol", "population", "cell"]).itertuples()
    ]
    return (
        f"AUCs of fewer than {FEW} test images have intervals without width, which does not make them certain"
        f" ({listed(found)}); take more test images"
    )


def summarise(
    evaluated: Sequence[str | Path], trained: Sequence[str | Path], verdicts: str | Path, *,
    scores: str | Path, histories: str | Path, metrics: str | Path, summary: str | Path, made: Made,
    **settings: Any,
) -> None:  # fmt: skip
    """Write the `scores` and the `histories` of a run as a table each, its `metrics` and their `summary`.

    See `evaluate` for what is measured.
    """
    joined = pd.concat([tables.read(path) for path in evaluated], ignore_index=True)
    measured, counted = evaluate(joined, tables.read(verdicts), **settings)
    passes = pd.concat([tables.read(path) for path in trained], ignore_index=True)
    if line := unsure(counted):
        logger.warning("%s", line)
    found = {scores: joined, histories: passes, metrics: measured, summary: counted}
    for path, table in found.items():
        tables.write(path, table, made, [*evaluated, *trained, verdicts], csv=True)
