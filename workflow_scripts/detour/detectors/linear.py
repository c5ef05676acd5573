"""Linear: the scale of features, and logistic regression on them or on one number per layer."""

from collections.abc import Sequence
from math import isfinite
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from detour import areas
from detour.errors import InputError

# Axes of [m, L, C] that share a mean and a deviation.
SHARED = {"layer": (0, 2), "standard": (0,)}


def scaling(x: Tensor, scale: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation that bring features to mean 0 and deviation 1.

    Parameters
    ----------
    x : float [m, L, C]
        Of training images; `standard` takes [m, F] too.
    scale
        `layer`: one mean and one deviation a layer, so that differences between classes stay in proportion;
        `standard`: one for each feature; `raw`: 0 and 1.

    Returns
    -------
    float, twice
        [1, L, 1], [1, L, C] or a scalar. The deviation of what varies only by rounding is 1.
    """
    if scale == "raw":
        return torch.tensor(0, dtype=x.dtype), torch.tensor(1, dtype=x.dtype)
    std, mean = torch.std_mean(x, SHARED[scale], correction=0, keepdim=True)
    rounding = 10 * torch.finfo(x.dtype).eps * mean.abs()
    return mean, torch.where(std > rounding, std, 1)


def mean_loss(losses: Sequence[Tensor], epoch: int) -> float:
    """The mean of an epoch's losses.

    Raises
    ------
    ValueError
        If it is not finite.
    """
    mean = float(torch.stack(list(losses)).double().mean())
    if not isfinite(mean):
        raise InputError(
            f"the training loss of epoch {epoch} is {mean}: training has diverged; use a smaller lr, or"
            " scale: layer where there is a scale"
        )
    return mean


class Regression:
    """Logistic regression on scaled features, with the C of the best validation AUC.

    Parameters
    ----------
    c
        Inverses of the strength of the L2 regularisation to try.
    scale
        See `scaling`.
    """

    def __init__(self, c: list[float], scale: str = "standard") -> None:
        self.c, self.scale = c, scale

    def fit(
        self, x: np.ndarray, y: np.ndarray, validation: np.ndarray, truth: np.ndarray
    ) -> list[dict[str, float]]:
        """Learn, and return the validation AUC of each C.

        Parameters
        ----------
        x, validation : float [m, ...]
        y, truth : bool [m]

        Raises
        ------
        ValueError
            If a feature is not finite.
        """
        # Not above: every job of a detector imports this module, and scikit-learn takes a second.
        from sklearn.linear_model import LogisticRegression

        scaled = torch.from_numpy(x).to(torch.float64, copy=True)
        self.mean, self.std = scaling(scaled, self.scale)
        # In place: at 17 layers and 1,000 classes a copy is half a gigabyte.
        features = scaled.sub_(self.mean).div_(self.std).flatten(1).numpy()
        if not np.isfinite(features).all():
            raise InputError(
                "found features of training images that are not finite; is the classifier broken? Delete the"
                " run's distances and activations, and run again"
            )
        history: list[dict[str, float]] = []
        best = -1.0
        # Newton's converges in some steps, where the other takes a thousand; but its Hessian is F x F.
        solver = "newton-cholesky" if features.shape[1] < len(x) else "lbfgs"
        for c in self.c:
            model = LogisticRegression(C=c, solver=solver, max_iter=1000).fit(features, y)
            weight, bias = torch.from_numpy(model.coef_[0]), torch.from_numpy(model.intercept_)
            auc = areas.auc(truth, self._logits(torch.from_numpy(validation), weight, bias).numpy())
            history.append({"c": c, "validation_auc": auc})
            if auc > best:
                best, self.weight, self.bias = auc, weight, bias
        return history

    def logits(self, x: Tensor) -> Tensor:
        """float64 [m] of [m, ...]"""
        return self._logits(x, self.weight, self.bias)

    def _logits(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ((x.double() - self.mean) / self.std).flatten(1) @ weight + bias

    def score(self, x: np.ndarray) -> np.ndarray:
        """float64 [m] of [m, ...]"""
        return self.logits(torch.from_numpy(x)).numpy()

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("mean", "std", "weight", "bias")}

    def restored(self, state: dict[str, Any]) -> Self:
        for name, value in state.items():
            setattr(self, name, value)
        return self
