"""Linear: logistic regression, alone or to make one score of one number per layer."""

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from detour import areas


class Regression:
    """Logistic regression on standardised features, with the C of the best validation AUC.

    Parameters
    ----------
    c
        Inverses of the strength of the L2 regularisation to try.
    """

    def __init__(self, c: list[float]) -> None:
        self.c = c

    def fit(
        self, x: np.ndarray, y: np.ndarray, validation: np.ndarray, truth: np.ndarray
    ) -> list[dict[str, float]]:
        """Learn, and return the validation AUC of each C.

        Parameters
        ----------
        x, validation : float [m, F]
        y, truth : bool [m]
        """
        # Not above: every job of a detector imports this module, and scikit-learn takes a second.
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler()
        x = scaler.fit_transform(x.astype(np.float64))
        self.mean, self.std = torch.from_numpy(scaler.mean_), torch.from_numpy(scaler.scale_)
        history: list[dict[str, float]] = []
        best = -1.0
        # Newton's converges in some steps, where the other takes a thousand; but its Hessian is F x F.
        solver = "newton-cholesky" if x.shape[1] < len(x) else "lbfgs"
        for c in self.c:
            found = LogisticRegression(C=c, solver=solver, max_iter=1000).fit(x, y)
            weight, bias = torch.from_numpy(found.coef_[0]), torch.from_numpy(found.intercept_)
            auc = areas.auc(truth, self._logits(torch.from_numpy(validation), weight, bias).numpy())
            history.append({"c": c, "validation_auc": auc})
            if auc > best:
                best, self.weight, self.bias = auc, weight, bias
        return history

    def logits(self, x: Tensor) -> Tensor:
        """float64 [m] of [m, F]"""
        return self._logits(x, self.weight, self.bias)

    def _logits(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ((x.double() - self.mean) / self.std) @ weight + bias

    def score(self, x: np.ndarray) -> np.ndarray:
        """float64 [m] of [m, F]"""
        return self.logits(torch.from_numpy(x)).numpy()

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("mean", "std", "weight", "bias")}

    def restored(self, state: dict[str, Any]) -> Self:
        for name, value in state.items():
            setattr(self, name, value)
        return self
