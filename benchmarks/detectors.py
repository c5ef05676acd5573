"""Detectors: epochs of the LSTM's training on one fold, 4,000 sequences of 12 layers x 1,000 classes.

Detour and the plain way, a DataLoader over a TensorDataset as in any tutorial, also score the validation
images after each epoch, as the method asks; the bare steps go over batches cut beforehand and do no more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import timing
from benchmarks.sections import Table
from detour.detectors.sequences import LSTM
from detour.options.detectors import detector

GOAL = "Ahead of the plain way; the bare training steps are the bound."

NOTES = [
    "At 12 x 1,000 floats a sequence the steps themselves take the time: cutting batches from the arrays at once"
    " gains a few hundredths over image by image, and what is left above the bare steps is scoring the validation"
    " images after each epoch.",
]

HIDDEN, BATCH, LR = 100, 100, 1e-3
BARE = "bare steps"


@dataclass(frozen=True)
class Sequences:
    """What the detector reads of `detour.detectors.Versions`: float32 [m, L, C], bool [m]."""

    distances: np.ndarray
    adversarial: np.ndarray


def run(quick: bool) -> list[Table]:
    m, layers, classes, epochs, rounds = (200, 3, 10, 1, 1) if quick else (4_000, 12, 1_000, 3, 3)
    size = m, layers, classes
    called = {name: partial(call, epochs) for name, call in candidates(*size).items()}
    found = timing.side_by_side(called, BARE, rounds)
    aucs = ", ".join(f"{name} {f.output:.3f}" for name, f in found.items() if f.output is not None)
    rows = [
        {**timing.row(name, f, m * epochs, "sequences"), "peak MB": timing.alone(_peak, name, *size)}
        for name, f in found.items()
    ]
    return [
        Table(
            f"{m:,} sequences of {layers} x {classes:,}, batches of {BATCH}, {epochs} epochs",
            rows,
            note=f"Best AUC on {m // 8} validation images: {aucs}. The sequences take {m * layers * classes * 4 / 1e6:.0f}"
            " MB; the peak, of one epoch in a process of its own, has PyTorch in it.",
        )
    ]


def candidates(m: int, layers: int, classes: int) -> dict[str, Callable[[int], Any]]:
    """What is timed, each for a number of epochs."""
    rng = np.random.default_rng(0)
    train, validation = (sequences(rng, n, layers, classes) for n in (m, m // 8))
    return {
        BARE: partial(bare, train),
        "Detour": partial(detour, train, validation),
        "plain": partial(plain, train, validation),
    }


def _peak(name: str, *size: int) -> float:
    candidates(*size)[name](1)
    return timing.peak_mb()


def sequences(rng: np.random.Generator, n: int, layers: int, classes: int) -> Sequences:
    """Distances of which one class's are a little shorter where the image is adversarial."""
    adversarial = np.arange(n) % 2 == 1
    distances = rng.standard_gamma(16, (n, layers, classes), dtype=np.float32) / 16
    distances[adversarial, :, 0] *= 0.8
    return Sequences(distances, adversarial)


def detour(train: Sequences, validation: Sequences, epochs: int) -> float:
    entry = {"name": "lstm", "method": "lstm", "hidden": HIDDEN, "batch_size": BATCH, "lr": LR}
    lstm = LSTM(detector({**entry, "epochs": epochs}))
    return max(epoch["validation_auc"] for epoch in lstm.fit(train, validation, seed=0))


class Net(nn.Module):
    """The paper's network, as a tutorial writes it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(classes, HIDDEN, batch_first=True)
        self.unit = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.unit(self.lstm(x)[1][0][-1]).squeeze(1)


def plain(train: Sequences, validation: Sequences, epochs: int) -> float:
    torch.manual_seed(0)
    data = TensorDataset(torch.from_numpy(train.distances), torch.from_numpy(train.adversarial).float())
    net = Net(train.distances.shape[2])
    optimizer = torch.optim.Adam(net.parameters(), lr=LR)
    aucs = []
    for _ in range(epochs):
        for x, y in DataLoader(data, BATCH, shuffle=True):
            _step(net, optimizer, x, y)
        with torch.no_grad():
            aucs.append(roc_auc_score(validation.adversarial, net(torch.from_numpy(validation.distances))))
    return max(aucs)


def bare(train: Sequences, epochs: int) -> None:
    torch.manual_seed(0)
    batches = [
        *zip(
            torch.from_numpy(train.distances).split(BATCH),
            torch.from_numpy(train.adversarial).float().split(BATCH),
            strict=True,
        )
    ]
    net = Net(train.distances.shape[2])
    optimizer = torch.optim.Adam(net.parameters(), lr=LR)
    for _ in range(epochs):
        for x, y in batches:
            _step(net, optimizer, x, y)


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.binary_cross_entropy_with_logits(net(x), y).backward()
    optimizer.step()
