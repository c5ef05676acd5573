"""Squeezing: the detector that compares what the classifier says of an image with and without detail."""

import numpy as np
from scipy.special import softmax

from detour.detectors.confidence import MaxSoftmax
from detour.detectors.versions import Versions
from detour.options.detectors import squeezing as options


class FeatureSqueezing(MaxSoftmax):
    """max_s |p(x) - p(s(x))|_1 over squeezers s (Xu et al. 2018, section 5).

    p are the classifier's probabilities. The paper's non-local means are left out: no library that is needed
    anyway has them.
    """

    def __init__(self, options: options.FeatureSqueezing) -> None:
        self.squeezers = options.squeezers

    def score(self, versions: Versions) -> np.ndarray:
        p = softmax(versions.logits.astype(np.float64), axis=1)
        return np.max(
            [
                np.abs(p - softmax(versions.squeezed(*by).astype(np.float64), axis=1)).sum(1)
                for by in self.squeezers.items()
            ],
            axis=0,
        )
