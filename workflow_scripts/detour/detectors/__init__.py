"""Detectors: tell adversarial from genuine images by what the earlier stages say of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd
import torch

from detour import store
from detour.artefacts import written
from detour.detectors.confidence import Energy, MaxSoftmax
from detour.detectors.layers import LID, KNNDistance, Mahalanobis
from detour.detectors.neighbours import KNN
from detour.detectors.sequences import LSTM, MLP, Logistic
from detour.detectors.versions import Run, Versions
from detour.folds import sources
from detour.store import Made


class Detector(Protocol):
    """What a detector is: fitted once, then it scores; higher is more adversarial.

    Attributes
    ----------
    reads
        Which stores of a `Run`; the workflow gives it no other.
    """

    reads: ClassVar[list[str]]

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        """Learn, and return a history: what was seen after each pass over the training images."""

    def score(self, versions: Versions) -> np.ndarray:
        """float64 [m]"""

    def state(self) -> dict[str, Any]:
        """What `restored` needs: tensors and plain values."""

    def restored(self, state: dict[str, Any]) -> Self:
        """This detector as it was when `state` was taken."""


# A new detector is one class and one line here, and its options one entry of the schema.
METHODS: dict[str, Callable[..., Detector]] = {
    "lstm": LSTM,
    "mlp": MLP,
    "logistic": Logistic,
    "knn": KNN,
    "knn_distance": KNNDistance,
    "mahalanobis": Mahalanobis,
    "lid": LID,
    "max_softmax": MaxSoftmax,
    "energy": Energy,
}


def detector(method: str, **options: Any) -> Detector:
    """The untrained detector of that entry of the configuration."""
    return METHODS[method](**options)


def train(
    run: Run, folds: str | Path, model: str | Path, history: str | Path, *,
    fold: int, method: str, options: dict[str, Any], seed: int, made: Made,
) -> None:  # fmt: skip
    """Fit a detector on a fold and write its state and its history."""
    fitted = detector(method, **options)
    part = {role: Versions(run, sources(folds, fold, role)) for role in ("train", "validation")}
    with written(history) as table, written(model) as path:
        seen = fitted.fit(part["train"], part["validation"], seed=seed + fold)
        about = store.attributes_of(made, run.paths)
        torch.save({"method": method, "options": options, "state": fitted.state(), "made": about}, path)
        pd.DataFrame(seen).to_csv(table, index=False)


def load(model: str | Path) -> Detector:
    """A detector as it was trained."""
    saved = torch.load(model, weights_only=True)
    return detector(saved["method"], **saved["options"]).restored(saved["state"])


def evaluate(
    run: Run, folds: str | Path, model: str | Path, out: str | Path, *,
    name: str, protocol: str, fold: int,
) -> None:  # fmt: skip
    """Score the test images of a fold.

    The table has detector, protocol, fold, set, source, adversarial (0 or 1) and score.
    """
    versions = Versions(run, sources(folds, fold, "test"))
    table = pd.DataFrame({
        "detector": name, "protocol": protocol, "fold": fold,
        "set": versions.set, "source": versions.source, "adversarial": versions.adversarial.astype(int),
        "score": load(model).score(versions),
    })  # fmt: skip
    with written(out) as part:
        table.to_csv(part, index=False)
