"""Sequences: detectors that learn from the distances at all layers, L x C of an image."""

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from detour import areas
from detour.detectors.linear import Regression, mean_loss, scaling
from detour.detectors.versions import Versions
from detour.histories import guessed_loss
from detour.logs import progress
from detour.options.detectors import sequences as options


class Network:
    """A network that learns from distances.

    Binary cross-entropy, Adam; the epoch with the best validation AUC is kept.
    """

    def __init__(self, options: options.Network) -> None:
        self.options = options

    def network(self, layers: int, classes: int) -> nn.Module:
        """Untrained, from [m, L, C] to logits [m]."""
        raise NotImplementedError

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        torch.manual_seed(seed)
        x = torch.from_numpy(train.distances)
        y = torch.from_numpy(train.adversarial).float()
        self._build(*x.shape[1:])
        self.mean, self.std = scaling(x, self.options.scale)
        x = (x - self.mean).div_(self.std)
        seen = (torch.from_numpy(validation.distances) - self.mean).div_(self.std)
        chosen = self.options
        optimizer = torch.optim.Adam(
            self.net.parameters(), lr=chosen.lr, weight_decay=chosen.weight_decay, fused=True
        )
        loss_of = nn.BCEWithLogitsLoss()
        guessed = guessed_loss(float(y.mean()))
        history: list[dict[str, float]] = []
        best, kept, since = -1.0, self.net.state_dict(), 0
        for epoch in progress(range(1, chosen.epochs + 1), chosen.epochs, "epochs"):
            losses = []
            for rows in _order(len(x)).split(chosen.batch_size):
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
            if since == chosen.patience:
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
    """

    options: options.LSTM

    def network(self, layers: int, classes: int) -> nn.Module:
        return _Sequence(classes, self.options.hidden, self.options.bidirectional)


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
    """A perceptron with one hidden layer of ReLUs, on the distances at all layers at once."""

    def network(self, layers: int, classes: int) -> nn.Module:
        hidden = nn.Linear(layers * classes, self.options.hidden)
        return nn.Sequential(
            nn.Flatten(), hidden, nn.ReLU(), nn.Linear(hidden.out_features, 1), nn.Flatten(0)
        )


class Logistic:
    """Logistic regression on the scaled distances at all layers at once."""

    def __init__(self, options: options.Logistic) -> None:
        self.regression = Regression(options.c, options.scale)

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
