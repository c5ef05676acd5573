"""Areas: under ROC curves, of one sample or of many. NumPy alone, as every job of a detector imports it."""

import numpy as np

from detour.errors import InputError


def auc(adversarial: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the share of pairs that is won, ties for half (Mann and Whitney 1947).

    Parameters
    ----------
    adversarial : bool [m]
    scores : float [m]

    Raises
    ------
    ValueError
        If a score is not finite.
    """
    if count := (~np.isfinite(scores)).sum():
        raise InputError(
            f"scores: {count} of {len(scores)} are not finite; if this is a training, it has diverged: use a"
            " smaller lr, or scale: layer"
        )
    negative, positive = np.sort(scores[~adversarial]), scores[adversarial]
    won = sum(np.searchsorted(negative, positive, side).sum() for side in ("left", "right"))
    return float(won / (2 * len(negative) * len(positive)))


def beaten(negative: np.ndarray, weights: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Share of genuine images below each adversarial one, ties for half: the AUC is its mean.

    Of all pairs the share that is won (Mann and Whitney 1947).

    Parameters
    ----------
    negative, positive : float64 [n], [p]
        Scores.
    weights : float64 [B, n]
        How often each genuine image stands in each sample.

    Returns
    -------
    float64 [B, p]
        NaN where a sample has no genuine image.
    """
    order = np.argsort(negative)
    below = np.pad(np.cumsum(weights[:, order], axis=1), ((0, 0), (1, 0)))
    ranks = (np.searchsorted(negative[order], positive, side) for side in ("left", "right"))
    with np.errstate(invalid="ignore"):
        return sum(below[:, rank] for rank in ranks) / (2 * below[:, -1:])


def beaten_high(negative: np.ndarray, weights: np.ndarray, positive: np.ndarray, fpr: float) -> np.ndarray:
    """`beaten`, of the share `fpr` of genuine images whose scores are highest.

    Its mean is that of the true positive rate over false positive rates below `fpr`; fpr / 2 is chance.
    """
    highest = np.unique(negative)[::-1]
    width = weights @ (negative[:, None] == highest)
    kept = np.clip(fpr * weights.sum(1, keepdims=True) - (np.cumsum(width, axis=1) - width), 0, width)
    reached = kept.any(0)
    highest, width, kept = highest[reached], width[:, reached], kept[:, reached]
    # The curve is straight across a tie: of those kept of it, half the share that they are.
    halves = kept * np.divide(kept, 2 * width, out=np.zeros_like(kept), where=width > 0)
    won = kept @ (highest[:, None] < positive) + halves @ (highest[:, None] == positive)
    with np.errstate(invalid="ignore"):
        return won / (fpr * weights.sum(1, keepdims=True))
