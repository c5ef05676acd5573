"""Neighbours: detectors that look at the nearest reference images."""

from typing import Any, Self

import numpy as np

from detour import areas
from detour.detectors.versions import Versions
from detour.options.detectors import neighbours as options


class KNN:
    """The baseline, [16] of the paper: how much of the neighbours' vote is not for the predicted class.

    Carrara et al. 2018: 1 - sum_i w_i [c_i = c] / sum_i w_i over the k nearest, of class c_i, with weights w_i
    of 1, or in their authors' code also of 1 / i (`rank`) and 1 / d_i (`distance`).
    """

    def __init__(self, options: options.KNN) -> None:
        self.layer, self.k, self.votes = options.layer, options.k, options.votes

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        history: list[dict[str, Any]] = []
        for layer in validation.layers if self.layer == "best" else [self.layer]:
            agree, weight = self._votes(validation, layer, max(self.k))
            for k in self.k:
                auc = areas.auc(validation.adversarial, _against(agree[:, :k], weight[:, :k]))
                history.append({"layer": layer, "k": k, "validation_auc": auc})
        best = max(history, key=lambda row: row["validation_auc"])
        self.chosen = best["layer"], best["k"]
        return history

    def score(self, versions: Versions) -> np.ndarray:
        return _against(*self._votes(versions, *self.chosen))

    def state(self) -> dict[str, Any]:
        return {"chosen": self.chosen}

    def restored(self, state: dict[str, Any]) -> Self:
        self.chosen = state["chosen"]
        return self

    def _votes(self, versions: Versions, layer: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Whether each of the k nearest has the predicted class, and its weight, nearest first: [m, k]."""
        distance, label = versions.neighbours(layer, k)
        agree = label == versions.predicted[:, None]
        if self.votes == "equal":
            return agree, np.ones(agree.shape)
        if self.votes == "rank":
            return agree, np.broadcast_to(1 / np.arange(1, k + 1), agree.shape)
        # Those at distance 0 alone, if there are any: the limit.
        same = distance[:, :1] == 0
        with np.errstate(divide="ignore"):
            return agree, np.where(same, distance == 0, 1 / distance.astype(np.float64))


def _against(agree: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """float64 [m]"""
    return 1 - (agree * weight).sum(1) / weight.sum(1)
