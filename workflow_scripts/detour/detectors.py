"""Detectors: tell adversarial from genuine images by what the earlier stages say of them."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from detour import store
from detour.artefacts import written
from detour.compute import THREAD, Dask
from detour.folds import sources
from detour.logs import progress
from detour.store import ORIGINAL, Made, named

# Reference activations that are in memory at once: 128 MB in float32.
ENTRIES = 2**25


@dataclass(frozen=True)
class Run:
    """Where the earlier stages of a run left what a detector reads; the others are empty.

    Parameters
    ----------
    distances, activations
        Stores by set; `original` is the genuine one, all others are adversarial.
    references
        Stores of the reference activations, in the order of their classes.
    dask
        What searches the reference.
    """

    distances: Mapping[str, str | Path]
    activations: Mapping[str, str | Path]
    references: Sequence[str | Path]
    dask: Dask = THREAD

    @classmethod
    def of(
        cls,
        distances: Sequence[str | Path],
        activations: Sequence[str | Path],
        references: Sequence[str | Path],
        dask: Dask,
    ) -> Self:
        """A run from the stores alone, whose file names are the names of the sets."""
        return cls(named(distances), named(activations), references, dask)

    @property
    def sets(self) -> list[str]:
        return list(self.distances or self.activations)

    @property
    def paths(self) -> list[str | Path]:
        return [*self.distances.values(), *self.activations.values(), *self.references]


class Versions:
    """All versions of some source images, with what the earlier stages say of them, read when asked for.

    Rows are grouped by set, in the order of the run.

    Attributes
    ----------
    source : int64 [m]
    set : str [m]
    adversarial : bool [m]
    """

    def __init__(self, run: Run, sources: np.ndarray) -> None:
        self.run = run
        self._sources = sources
        self.source = np.tile(sources, len(run.sets))
        self.set = np.repeat(run.sets, len(sources))
        self.adversarial = self.set != ORIGINAL

    @cached_property
    def distances(self) -> np.ndarray:
        """float32 [m, L, C]"""
        return self._rows(self.run.distances, "distances")

    def activations(self, layer: str) -> np.ndarray:
        """float32 [m, N_l]"""
        return self._rows(self.run.activations, layer)

    @cached_property
    def predicted(self) -> np.ndarray:
        """int64 [m]"""
        return self._rows(self.run.activations, "predicted")

    def nearest(self, layer: str, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Distance and label [m, k] of the k nearest, or all, of each block of the reference images."""
        activations = [Path(path).absolute() for path in self.run.activations.values()]
        tasks = []
        for path in self.run.references:
            # Whole chunks, so that none is read twice.
            x = store.read(path)[layer]
            chunk, width = x.chunks
            step = chunk * max(1, ENTRIES // (chunk * width))
            for start in range(0, x.shape[0], step):
                block = Path(path).absolute(), slice(start, start + step)
                tasks.append(partial(_nearest, activations, self._sources, *block, layer, k))
        return self.run.dask.results(tasks, f"{layer}: blocks of the reference")

    def _rows(self, stores: Mapping[str, str | Path], name: str) -> np.ndarray:
        return _rows(stores.values(), name, self._sources)


def _rows(stores: Iterable[str | Path], name: str, sources: np.ndarray) -> np.ndarray:
    """Of each store, the rows of those sources."""
    return np.concatenate([store.read(path)[name][:][sources] for path in stores])


def _nearest(
    activations: list[Path], sources: np.ndarray, reference: Path, rows: slice, layer: str, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest among some rows of one shard, which are read here: a worker has nothing sent to it."""
    shard = store.read(reference)
    label = shard["label"][rows]
    search = NearestNeighbors(n_neighbors=min(k, len(label)), algorithm="brute").fit(shard[layer][rows])
    distance, found = search.kneighbors(_rows(activations, layer, sources))
    return distance, label[found]


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


class KNN:
    """The baseline, [16] of the paper: how few of an image's neighbours have the class it is taken for.

    Parameters
    ----------
    layer
        Whose activations are compared.
    k
        Numbers of nearest reference images; the one with the best validation AUC is kept.
    """

    reads: ClassVar = ["activations", "references"]

    def __init__(self, *, layer: str, k: list[int]) -> None:
        self.layer, self.k = layer, k

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        agree = self._agree(validation, max(self.k))
        history = [
            {"k": k, "validation_auc": roc_auc_score(validation.adversarial, 1 - agree[:, :k].mean(1))}
            for k in self.k
        ]
        self.chosen = int(max(history, key=lambda row: row["validation_auc"])["k"])
        return history

    def score(self, versions: Versions) -> np.ndarray:
        return 1 - self._agree(versions, self.chosen).mean(1)

    def _agree(self, versions: Versions, k: int) -> np.ndarray:
        """Whether each of the k nearest, in their order, has the predicted class: bool [m, k]."""
        m = len(versions.source)
        distance, label = np.empty((m, 0)), np.empty((m, 0), dtype=np.int64)
        for its_distance, its_label in versions.nearest(self.layer, k):
            distance, label = np.hstack([distance, its_distance]), np.hstack([label, its_label])
            nearest = distance.argsort(axis=1, kind="stable")[:, :k]
            distance = np.take_along_axis(distance, nearest, axis=1)
            label = np.take_along_axis(label, nearest, axis=1)
        if label.shape[1] < k:
            raise ValueError(f"detectors: k: found {k}, allowed: at most {label.shape[1]} reference images")
        return label == versions.predicted[:, None]

    def state(self) -> dict[str, Any]:
        return {"chosen": self.chosen}

    def restored(self, state: dict[str, Any]) -> Self:
        self.chosen = state["chosen"]
        return self


# A new detector is one class and one line here, and its options one entry of the schema.
METHODS: dict[str, type[LSTM] | type[KNN]] = {"lstm": LSTM, "knn": KNN}


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
