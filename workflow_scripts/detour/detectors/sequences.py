"""Sequences: detectors that learn from the distances at all layers, L x C of an image."""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from detour import areas
from detour.detectors.linear import Regression, mean_loss, scaling
from detour.detectors.versions import Versions
from detour.histories import guessed_loss
from detour.logs import progress


class Network:
    """A network that learns from distances.

    Binary cross-entropy, Adam; the epoch with the best validation AUC is kept.

    Parameters
    ----------
    scale
        `layer`, `standard` or `raw`, see `detour.detectors.linear.scaling`. The paper does not say.
    weight_decay
        Of Adam: the factor of its L2 penalty.
    patience
        Epochs without a better validation AUC after which training ends; None: all epochs.
    """

    reads: ClassVar = ["distances"]

    def __init__(
        self, *, epochs: int, batch_size: int, lr: float, scale: str,
        weight_decay: float = 0, patience: int | None = None,
    ) -> None:  # fmt: skip
        self.epochs, self.batch_size, self.lr, self.scale = epochs, batch_size, lr, scale
        self.weight_decay, self.patience = weight_decay, patience

    def network(self, layers: int, classes: int) -> nn.Module:
        """Untrained, from [m, L, C] to logits [m]."""
        raise NotImplementedError

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        torch.manual_seed(seed)
        x = torch.from_numpy(train.distances)
        y = torch.from_numpy(train.adversarial).float()
        self._build(*x.shape[1:])
        self.mean, self.std = scaling(x, self.scale)
        x = (x - self.mean).div_(self.std)
        seen = (torch.from_numpy(validation.distances) - self.mean).div_(self.std)
        optimizer = torch.optim.Adam(
            self.net.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )
        loss_of = nn.BCEWithLogitsLoss()
        guessed = guessed_loss(float(y.mean()))
        history: list[dict[str, float]] = []
        best, kept, since = -1.0, self.net.state_dict(), 0
        for epoch in progress(range(1, self.epochs + 1), self.epochs, "epochs"):
            losses = []
            for rows in _order(len(x)).split(self.batch_size):
                optimizer.zero_grad(set_to_none=True)
                loss = loss_of(self.net(x[rows]), y[rows])
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            mean = mean_loss(losses, epoch)
            with torch.inference_mode():
                auc = areas.auc(validation.adversarial, self.net(seen).numpy())
            since += 1
            if auc > best:
                best, kept, since = auc, copy.deepcopy(self.net.state_dict()), 0
            history.append({"epoch": epoch, "loss": mean, "guessed_loss": guessed, "validation_auc": auc})
            if since == self.patience:
                break
        self.net.load_state_dict(kept)
        return history

    def logits(self, distances: Tensor, activations: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits [m] of distances float32 [m, L, C] as they are stored; differentiable."""
        return self.net((distances - self.mean) / self.std)

    @torch.inference_mode()
    def score(self, versions: Versions) -> np.ndarray:
        return self.logits(torch.from_numpy(versions.distances)).double().numpy()

    def state(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "shape": self.shape, "mean": self.mean, "std": self.std}

    def restored(self, state: dict[str, Any]) -> Self:
        self._build(*state["shape"])
        self.net.load_state_dict(state["net"])
        self.mean, self.std = state["mean"], state["std"]
        return self

    def _build(self, layers: int, classes: int) -> None:
        self.shape = [layers, classes]
        self.net = self.network(layers, classes)
        self.mean, self.std = torch.tensor(0.0), torch.tensor(1.0)


def _order(n: int) -> Tensor:
    """The images of an epoch, shuffled as by a DataLoader, which draws two seeds and uses the second."""
    _, seed = (int(torch.empty((), dtype=torch.int64).random_()) for _ in range(2))
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


class LSTM(Network):
    """The paper's detector: an LSTM over the layers' distances (Caldelli et al. 2019).

    The last hidden state, of both directions where there are two, goes into one linear unit.

    Parameters
    ----------
    hidden
        Units of the LSTM, in each direction.
    bidirectional
        Whether another LSTM reads the layers from the last to the first; the paper's does not.
    """

    def __init__(self, *, hidden: int, bidirectional: bool = False, **training: Any) -> None:
        super().__init__(**training)
        self.hidden, self.bidirectional = hidden, bidirectional

    def network(self, layers: int, classes: int) -> nn.Module:
        return _Sequence(classes, self.hidden, self.bidirectional)


class _Sequence(nn.Module):
    def __init__(self, classes: int, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(classes, hidden, batch_first=True, bidirectional=bidirectional)
        self.unit = nn.Linear(hidden * (1 + bidirectional), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [m] of distances [m, L, C]."""
        _, (last, _) = self.lstm(x)
        return self.unit(torch.cat(tuple(last), 1)).squeeze(1)


class MLP(Network):
    """A perceptron with one hidden layer of ReLUs, on the distances at all layers at once.

    Parameters
    ----------
    hidden
        Units of the hidden layer.
    """

    def __init__(self, *, hidden: int, **training: Any) -> None:
        super().__init__(**training)
        self.hidden = hidden

    def network(self, layers: int, classes: int) -> nn.Module:
        hidden = nn.Linear(layers * classes, self.hidden)
        return nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), nn.Linear(self.hidden, 1), nn.Flatten(0))


class Logistic:
    """Logistic regression on the scaled distances at all layers at once.

    Parameters
    ----------
    c
        Inverses of the regularisation's strength; the one with the best validation AUC is kept.
    scale
        `layer`, `standard` or `raw`, see `detour.detectors.linear.scaling`.
    """

    reads: ClassVar = ["distances"]

    def __init__(self, *, c: list[float], scale: str) -> None:
        self.regression = Regression(c, scale)

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        return self.regression.fit(
            train.distances, train.adversarial, validation.distances, validation.adversarial
        )

    def logits(self, distances: Tensor, activations: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits [m] of distances float32 [m, L, C] as they are stored; differentiable."""
        return self.regression.logits(distances)

    def score(self, versions: Versions) -> np.ndarray:
        return self.logits(torch.from_numpy(versions.distances)).numpy()

    def state(self) -> dict[str, Any]:
        return self.regression.state()

    def restored(self, state: dict[str, Any]) -> Self:
        self.regression.restored(state)
        return self
