"""Metrics: what the scores and the predictions amount to."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score, roc_curve

from detour import store
from detour.artefacts import written
from detour.store import NO_TARGET, ORIGINAL

ALL = "all"
# Where the ROC of the folds is read off to be averaged.
FALSE_POSITIVE_RATES = np.linspace(0, 1, 501)


def per_attack(scores: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The scores of the originals with those of all attacks, then with those of each.

    Parameters
    ----------
    scores
        With the column `set`.
    """
    yield ALL, scores
    for attack in scores["set"].unique():
        if attack != ORIGINAL:
            yield attack, scores[scores["set"].isin([ORIGINAL, attack])]


def auc(scores: pd.DataFrame) -> pd.DataFrame:
    """AUC of every detector, protocol and attack: mean and standard deviation over folds.

    Scores of different folds are of different models and not compared with each other.

    Parameters
    ----------
    scores
        detector, protocol, fold, set, source, adversarial, score.

    Returns
    -------
    DataFrame
        detector, protocol, attack (`all` and each), auc, std (n - 1 in the denominator), folds.
    """
    rows = []
    for (detector, protocol), of_detector in scores.groupby(["detector", "protocol"], sort=False):
        for attack, chosen in per_attack(of_detector):
            values = [roc_auc_score(f["adversarial"], f["score"]) for _, f in chosen.groupby("fold")]
            rows.append((detector, protocol, attack, np.mean(values), np.std(values, ddof=1), len(values)))
    return pd.DataFrame(rows, columns=["detector", "protocol", "attack", "auc", "std", "folds"])


def mean_roc(scores: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mean over folds of the true positive rate, and its standard deviation, at `FALSE_POSITIVE_RATES`."""
    curves = []
    for _, fold in scores.groupby("fold"):
        fpr, tpr, _ = roc_curve(fold["adversarial"], fold["score"])
        curve = np.interp(FALSE_POSITIVE_RATES, fpr, tpr)
        curve[0] = 0
        curves.append(curve)
    return np.mean(curves, axis=0), np.std(curves, axis=0, ddof=1)


def wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    low, high = binomtest(int(count), of).proportion_ci(method="wilson")
    return low, high


def outcome(predicted: np.ndarray, label: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Shares of images that are classified right and that hit their target (NaN where there is none)."""
    aimed = target >= 0
    hits = (predicted[aimed] == target[aimed]).mean() if aimed.any() else np.nan
    return {"accuracy": (predicted == label).mean(), "target_hits": hits}


def attacked(images: Mapping[str, str | Path], activations: Mapping[str, str | Path]) -> pd.DataFrame:
    """What each attack did to the classifier, from the stored bytes.

    Parameters
    ----------
    images, activations
        Stores by set.

    Returns
    -------
    DataFrame
        set, images, accuracy, target_hits, linf (largest change of a pixel, of 255), l2 (mean over images of
        the L2 norm of the change, of 255), differs (share of images that the classifier takes for something
        else in the precision of the attack than in float32, which all else is told by).
    """
    original = store.read(images[ORIGINAL])
    rows = []
    for name, path in images.items():
        stored, seen = store.read(path), store.read(activations[name])
        target = np.full(len(stored["label"][:]), NO_TARGET) if name == ORIGINAL else stored["target"][:]
        predicted = seen["predicted"][:]
        differs = np.nan if name == ORIGINAL else (stored["predicted"][:] != predicted).mean()
        linf, l2 = change(original, stored)
        rows.append({
            "set": name, "images": len(target),
            **outcome(predicted, stored["label"][:], target),
            "linf": linf.max(), "l2": l2.mean(), "differs": differs,
        })  # fmt: skip
    return pd.DataFrame(rows)


def change(original: zarr.Group, perturbed: zarr.Group) -> tuple[np.ndarray, np.ndarray]:
    """L-infinity and L2 norm of each image's perturbation, in pixels of 255.

    Returns
    -------
    int64 [n], float64 [n]
    """
    linf, l2 = [], []
    rows = original["images"].chunks[0]
    for start in range(0, original["images"].shape[0], rows):
        part = slice(start, start + rows)
        moved = perturbed["images"][part].astype(np.int64) - original["images"][part]
        linf.append(np.abs(moved).max((1, 2, 3)))
        l2.append(np.sqrt((moved**2).sum((1, 2, 3))))
    return np.concatenate(linf), np.concatenate(l2)


def summarise(
    evaluated: Sequence[str | Path], images: Mapping[str, str | Path],
    activations: Mapping[str, str | Path], *,
    scores: str | Path, summary: str | Path, outcomes: str | Path,
) -> None:  # fmt: skip
    """Write the tables of a run: all `scores`, their AUC as `summary`, and the attacks' `outcomes`."""
    joined = pd.concat([pd.read_csv(path) for path in evaluated])
    tables = ((scores, joined), (summary, auc(joined)), (outcomes, attacked(images, activations)))
    for path, table in tables:
        with written(path) as part:
            table.to_csv(part, index=False)
