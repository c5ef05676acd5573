"""Sequences: detectors that learn from the distances at all layers, L x C of an image."""

import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from detour.detectors.versions import Versions
from detour.logs import progress


class LSTM:
    """The paper's detector: an LSTM over the layers' distances (Caldelli et al. 2019).

    The last hidden state goes into one linear unit; binary cross-entropy, Adam; the epoch with the best
    validation AUC is kept.

    Parameters
    ----------
    hidden
        Units of the LSTM.
    scale
        `raw`, or `standard`: mean 0 and deviation 1 on the training images, per layer and class.
    """

    reads: ClassVar = ["distances"]

    def __init__(self, *, hidden: int, epochs: int, batch_size: int, lr: float, scale: str) -> None:
        self.hidden, self.epochs, self.batch_size, self.lr = hidden, epochs, batch_size, lr
        self.scale = scale

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        torch.manual_seed(seed)
        x = torch.from_numpy(train.distances)
        y = torch.from_numpy(train.adversarial).float()
        self._build(x.shape[2])
        if self.scale == "standard":
            self.mean, self.std = x.mean(0), x.std(0).clamp_min(torch.finfo(x.dtype).tiny)
        rows = TensorDataset((x - self.mean) / self.std, y)
        # A batch is taken from the arrays at once instead of image by image.
        order = BatchSampler(RandomSampler(rows), self.batch_size, drop_last=False)
        batches = DataLoader(rows, sampler=order, batch_size=None)
        optimizer = torch.optim.Adam(self.net.parameters(), lr=self.lr)
        loss_of = nn.BCEWithLogitsLoss()
        history: list[dict[str, float]] = []
        best, kept = -1.0, self.net.state_dict()
        for epoch in progress(range(1, self.epochs + 1), self.epochs, "epochs"):
            losses = []
            for batch, truth in batches:
                optimizer.zero_grad(set_to_none=True)
                loss = loss_of(self.net(batch), truth)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            auc = roc_auc_score(validation.adversarial, self.score(validation))
            if auc > best:
                best, kept = auc, copy.deepcopy(self.net.state_dict())
            history.append({"epoch": epoch, "loss": float(np.mean(losses)), "validation_auc": auc})
        self.net.load_state_dict(kept)
        return history

    @torch.inference_mode()
    def score(self, versions: Versions) -> np.ndarray:
        x = (torch.from_numpy(versions.distances) - self.mean) / self.std
        return self.net(x).double().numpy()

    def logits(self, distances: Tensor) -> Tensor:
        """Scores [m] of distances [m, L, C], differentiable."""
        return self.net((distances - self.mean) / self.std)

    def state(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "mean": self.mean, "std": self.std}

    def restored(self, state: dict[str, Any]) -> Self:
        self._build(state["net"]["lstm.weight_ih_l0"].shape[1])
        self.net.load_state_dict(state["net"])
        self.mean, self.std = state["mean"], state["std"]
        return self

    def _build(self, classes: int) -> None:
        self.net = _Sequence(classes, self.hidden)
        self.mean, self.std = torch.tensor(0.0), torch.tensor(1.0)


class _Sequence(nn.Module):
    def __init__(self, classes: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(classes, hidden, batch_first=True)
        self.unit = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [m] of distances [m, L, C]."""
        _, (last, _) = self.lstm(x)
        return self.unit(last[-1]).squeeze(1)
