"""Layers: detectors with one number per layer, combined into one score by logistic regression."""

from typing import Any, Self

import numpy as np
import torch

from detour.detectors.linear import Regression
from detour.detectors.versions import Versions
from detour.distances import distances
from detour.errors import InputError
from detour.options.detectors import Regressing
from detour.options.detectors import layers as options
from detour.store import ORIGINAL

# The dimension given where all distances are equal, which do not determine it.
LARGEST = 1e4


class Layers:
    """Combines one number per layer into a score, by logistic regression on the training versions."""

    def __init__(self, options: Regressing) -> None:
        self.regression = Regression(options.c)

    def numbers(self, versions: Versions) -> np.ndarray:
        """float64 [m, L]"""
        raise NotImplementedError

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        return self.regression.fit(
            self.numbers(train), train.adversarial, self.numbers(validation), validation.adversarial
        )

    def score(self, versions: Versions) -> np.ndarray:
        return self.regression.score(self.numbers(versions))

    def state(self) -> dict[str, Any]:
        return {"regression": self.regression.state()}

    def restored(self, state: dict[str, Any]) -> Self:
        self.regression.restored(state["regression"])
        return self


class Mahalanobis(Layers):
    """Mahalanobis distance to the nearest class (Lee et al. 2018, eq. 2 and the feature ensemble).

    At layer l, M_l(x) = max_c -(f - mu_c)^T Sigma^-1 (f - mu_c), with the means of the classes and the
    shared covariance; where it is singular, its pseudo-inverse. With a `magnitude`, of images after the
    paper's input pre-processing (`detour.preprocessed`).
    """

    def __init__(self, options: options.Mahalanobis) -> None:
        super().__init__(options)
        self.magnitude = options.magnitude

    def numbers(self, versions: Versions) -> np.ndarray:
        if self.magnitude:
            return versions.preprocessed(self.magnitude)
        return np.stack([self._at(versions, layer) for layer in versions.layers], axis=1)

    def _at(self, versions: Versions, layer: str) -> np.ndarray:
        """M_l of every image: float64 [m]"""
        gaussian = versions.gaussian(layer)
        mean, whitening = gaussian["mean"][:], gaussian["whitening"][:]
        # Centred: only differences count, and they keep more digits.
        centre = mean.mean(0)
        x = versions.activations(layer) - centre
        return -(distances(x @ whitening, (mean - centre) @ whitening) ** 2).min(1)


class WithNeighbours(Layers):
    """Detectors whose numbers depend on the number of neighbours."""

    def __init__(self, options: options.KNNDistance | options.LID) -> None:
        super().__init__(options)
        self.k, self.c = options.k, options.c

    def tried(self, versions: Versions, k: list[int]) -> dict[int, np.ndarray]:
        """The numbers for each k: float64 [m, L]"""
        raise NotImplementedError

    def numbers(self, versions: Versions) -> np.ndarray:
        return self.tried(versions, [self.chosen])[self.chosen]

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        learnt, seen = (self.tried(part, self.k) for part in (train, validation))
        history: list[dict[str, float]] = []
        best = -1.0
        for k in self.k:
            regression = Regression(self.c)
            found = regression.fit(learnt[k], train.adversarial, seen[k], validation.adversarial)
            history += [{"k": k} | row for row in found]
            if (auc := max(row["validation_auc"] for row in found)) > best:
                best, self.chosen, self.regression = auc, k, regression
        return history

    def state(self) -> dict[str, Any]:
        return super().state() | {"chosen": self.chosen}

    def restored(self, state: dict[str, Any]) -> Self:
        self.chosen = state["chosen"]
        return super().restored(state)


class KNNDistance(WithNeighbours):
    """L2 distance to the k-th nearest reference image, at each layer."""

    def tried(self, versions: Versions, k: list[int]) -> dict[int, np.ndarray]:
        found = [versions.neighbours(layer, max(k))[0] for layer in versions.layers]
        return {n: np.stack([distance[:, n - 1] for distance in found], axis=1) for n in k}


class LID(WithNeighbours):
    """Local intrinsic dimensionality at each layer (Ma et al. 2018).

    LID(x) = -(1/k sum_{i=1..k} log(r_i / r_k))^-1, where r_i is the distance to the i-th nearest image of a
    batch of original training images. An image's own original is never in its batch: one image more is drawn,
    and each image leaves out its own original or, if that was not drawn, the last.

    If a neighbour is at distance 0, the sum is minus infinity and the dimension is 0, its limit; it is 0 as
    well if all k are at distance 0. If all k are equally far otherwise, it is `LARGEST`.
    """

    def __init__(self, options: options.LID) -> None:
        super().__init__(options)
        self.options = options

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        # Their number was foreseen, but copies share a fold.
        for key, problem in self.options.problems(len(train.sources)):
            raise InputError(f"detectors: {key}: {problem}")
        drawn = np.random.default_rng(seed).permutation(train.sources)[: self.options.batch + 1]
        genuine = Versions(train.run, drawn, [ORIGINAL])
        self.sources = torch.from_numpy(drawn)
        self.genuine = {layer: torch.from_numpy(genuine.activations(layer)) for layer in train.layers}
        return super().fit(train, validation, seed)

    def tried(self, versions: Versions, k: list[int]) -> dict[int, np.ndarray]:
        own = versions.source[:, None] == self.sources.numpy()
        own[~own.any(1), -1] = True
        left_out = own | self._copies(versions)
        # Where nearly all images are alike, they are no copies.
        if (len(self.sources) - left_out.sum(1)).min() < max(k):
            left_out = own
        found: dict[int, list[np.ndarray]] = {n: [] for n in k}
        for layer, genuine in self.genuine.items():
            r = distances(versions.activations(layer), genuine.numpy())
            r = np.sort(np.where(left_out, np.inf, r), axis=1)
            for n in k:
                found[n].append(dimension(r[:, :n]))
        return {n: np.stack(columns, axis=1) for n, columns in found.items()}

    def _copies(self, versions: Versions) -> np.ndarray:
        """Which of the batch is the same image under another number: bool [m, batch + 1].

        A copy of a training image would be its neighbour at distance 0, which no test image has.
        """
        same = np.ones((len(versions.source), len(self.sources)), dtype=bool)
        for layer, genuine in self.genuine.items():
            numbers = {row.tobytes(): i for i, row in enumerate(genuine.numpy())}
            first = np.array([numbers[row.tobytes()] for row in genuine.numpy()])
            found = [numbers.get(row.tobytes(), -1) for row in versions.activations(layer)]
            same &= np.array(found)[:, None] == first
        return same

    def state(self) -> dict[str, Any]:
        return super().state() | {"sources": self.sources, "genuine": self.genuine}

    def restored(self, state: dict[str, Any]) -> Self:
        self.sources, self.genuine = state["sources"], state["genuine"]
        return super().restored(state)


def dimension(r: np.ndarray) -> np.ndarray:
    """LID of points, from the distances to their k nearest in ascending order.

    Parameters
    ----------
    r : float64 [m, k]

    Returns
    -------
    float64 [m]
        In [0, `LARGEST`].
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(r / r[:, -1:]).mean(1)
        found = np.minimum(1 / np.abs(logs), LARGEST)
    return np.where(r[:, 0] == 0, 0, found)
