"""Neighbours: detectors that look at the nearest reference images."""

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.metrics import roc_auc_score

from detour.detectors.versions import Versions


class KNN:
    """The baseline, [16] of the paper: how few of an image's neighbours have the class it is taken for.

    Parameters
    ----------
    layer
        Whose activations are compared.
    k
        Numbers of nearest reference images; the one with the best validation AUC is kept.
    """

    reads: ClassVar = ["activations", "references"]

    def __init__(self, *, layer: str, k: list[int]) -> None:
        self.layer, self.k = layer, k

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        agree = self._agree(validation, max(self.k))
        history = [
            {"k": k, "validation_auc": roc_auc_score(validation.adversarial, 1 - agree[:, :k].mean(1))}
            for k in self.k
        ]
        self.chosen = int(max(history, key=lambda row: row["validation_auc"])["k"])
        return history

    def score(self, versions: Versions) -> np.ndarray:
        return 1 - self._agree(versions, self.chosen).mean(1)

    def _agree(self, versions: Versions, k: int) -> np.ndarray:
        """Whether each of the k nearest, in their order, has the predicted class: bool [m, k]."""
        m = len(versions.source)
        distance, label = np.empty((m, 0)), np.empty((m, 0), dtype=np.int64)
        for its_distance, its_label in versions.nearest(self.layer, k):
            distance, label = np.hstack([distance, its_distance]), np.hstack([label, its_label])
            nearest = distance.argsort(axis=1, kind="stable")[:, :k]
            distance = np.take_along_axis(distance, nearest, axis=1)
            label = np.take_along_axis(label, nearest, axis=1)
        if label.shape[1] < k:
            raise ValueError(f"detectors: k: found {k}, allowed: at most {label.shape[1]} reference images")
        return label == versions.predicted[:, None]

    def state(self) -> dict[str, Any]:
        return {"chosen": self.chosen}

    def restored(self, state: dict[str, Any]) -> Self:
        self.chosen = state["chosen"]
        return self
