"""Neighbours: detectors that look at the nearest reference images."""

from typing import Any, Self

import numpy as np

from detour import areas
from detour.detectors.versions import Versions
from detour.options.detectors import neighbours as options


class KNN:
    """The baseline, [16] of the paper: the share of neighbours of another class than the predicted one."""

    def __init__(self, options: options.KNN) -> None:
        self.layer, self.k = options.layer, options.k

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        history: list[dict[str, Any]] = []
        for layer in validation.layers if self.layer == "best" else [self.layer]:
            agree = _agree(validation, layer, max(self.k))
            for k in self.k:
                auc = areas.auc(validation.adversarial, 1 - agree[:, :k].mean(1))
                history.append({"layer": layer, "k": k, "validation_auc": auc})
        best = max(history, key=lambda row: row["validation_auc"])
        self.chosen = best["layer"], best["k"]
        return history

    def score(self, versions: Versions) -> np.ndarray:
        return 1 - _agree(versions, *self.chosen).mean(1)

    def state(self) -> dict[str, Any]:
        return {"chosen": self.chosen}

    def restored(self, state: dict[str, Any]) -> Self:
        self.chosen = state["chosen"]
        return self


def _agree(versions: Versions, layer: str, k: int) -> np.ndarray:
    """Whether each of the k nearest has the predicted class, nearest first: bool [m, k]."""
    _, label = versions.neighbours(layer, k)
    return label == versions.predicted[:, None]
