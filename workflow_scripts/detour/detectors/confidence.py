"""Confidence: detectors that use only the classifier's output, and are not trained."""

from typing import Any, Self

import numpy as np
from scipy.special import logsumexp

from detour import areas
from detour.detectors.versions import Versions
from detour.options.detectors import confidence as options


class MaxSoftmax:
    """1 - the classifier's confidence in the predicted class: 1 - max_c softmax(logits)_c.

    Hendrycks and Gimpel 2017, section 2.
    """

    def __init__(self, options: options.MaxSoftmax) -> None:
        pass

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        return [{"validation_auc": areas.auc(validation.adversarial, self.score(validation))}]

    def score(self, versions: Versions) -> np.ndarray:
        # Not 1 - the largest, which is 0 for all logits that are far apart.
        logits = np.sort(versions.logits.astype(np.float64), axis=1)
        others = np.exp(logits[:, :-1] - logits[:, -1:]).sum(1)
        return others / (1 + others)

    def state(self) -> dict[str, Any]:
        return {}

    def restored(self, state: dict[str, Any]) -> Self:
        return self


class Energy(MaxSoftmax):
    """The energy of the logits, -T log sum_c exp(logits_c / T) (Liu et al. 2020, eq. 4)."""

    def __init__(self, options: options.Energy) -> None:
        self.temperature = options.temperature

    def score(self, versions: Versions) -> np.ndarray:
        scaled = versions.logits.astype(np.float64) / self.temperature
        return -self.temperature * logsumexp(scaled, axis=1)
