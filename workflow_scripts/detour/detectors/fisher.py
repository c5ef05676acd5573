"""Fisher: detectors of the shift that attacks have in common, against how genuine images vary."""

import copy
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import log
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from detour import areas, store
from detour.detectors.linear import mean_loss
from detour.detectors.versions import Run, Versions
from detour.logs import progress
from detour.options.detectors import fisher as options
from detour.store import ORIGINAL


class _Part(nn.Module):
    """A linear layer and what makes one number of what it puts out."""

    def __init__(self, first: nn.Linear, rest: nn.Module) -> None:
        super().__init__()
        self.first, self.rest = first, rest

    def forward(self, x: Tensor) -> Tensor:
        """[m] of [m, N]"""
        return self.rest(self.first(x))


class Fisher:
    """Fisher's discriminant (1936) of the activations at all layers side by side.

    w = (R + ridge I)^-1 (m_a - m_o), with the means of adversarial and original training images and the
    correlations R of the reference's activations about their classes' means, all in units of the reference's
    deviations. The covariance is known from many more images than those of the training, and what is learned
    is one direction: attacks move activations little beside what tells images apart, but alike.

    Where controls are in training, R has beside it damage * mean d d^T, with d what a control changes of a
    training image: a direction in which harmless changes move images tells no attack, however little genuine
    images vary in it.
    """

    def __init__(self, options: options.Discriminant) -> None:
        self.options = options

    def fit(self, train: Versions, validation: Versions, seed: int) -> list[dict[str, float]]:
        self.chosen = list(self.options.layers or train.layers)
        self.mean, whitening, white = _whitened(train.run, tuple(self.chosen), self.options.ridge)
        damage = _of_damage(train, tuple(self.chosen), self.options)
        x, seen = (
            torch.cat([white[name][part.sources] for name in part.sets]) for part in (train, validation)
        )
        parts, history = self.parts(
            x, torch.from_numpy(train.adversarial), seen, validation.adversarial, seed, damage
        )
        with torch.no_grad():
            # What is learned is of whitened activations, and is applied to them as they are.
            for part in parts:
                part.first.weight = nn.Parameter(part.first.weight.double() @ whitening.T)
        self.net = nn.ModuleList(parts).double().eval()
        originals = Versions(validation.run, validation.sources, [ORIGINAL])
        with torch.no_grad():
            genuine = self._scores(self._read(originals))
        low, middle, high = np.percentile(genuine, [16, 50, 84], axis=0)
        spread = (high - low) / 2
        # What is the same for all genuine images, but for rounding, has no unit of its own.
        spread = np.where(spread > 10 * np.finfo(spread.dtype).eps * np.abs(middle), spread, 1)
        self.middle, self.spread = torch.from_numpy(middle), torch.from_numpy(spread)
        return history

    def parts(
        self, x: Tensor, y: Tensor, seen: Tensor, truth: np.ndarray, seed: int, damage: Tensor
    ) -> tuple[list[_Part], list[dict[str, float]]]:
        """What scores are added up, and a history.

        Parameters
        ----------
        x, seen : float64 [m, N]
            Whitened activations of the training and the validation.
        y, truth : bool [m]
        damage : float64 [N, N]
            Makes whitened activations white once more, see `_of_damage`.
        """
        discriminant = nn.Linear(x.shape[1], 1, bias=False)
        moved = x[y].mean(0) - x[~y].mean(0)
        discriminant.weight = nn.Parameter((moved @ damage @ damage.T)[None])
        part = _Part(discriminant, nn.Flatten(0))
        with torch.no_grad():
            auc = areas.auc(truth, part(seen).numpy())
        return [part], [{"validation_auc": auc}]

    def logits(self, distances: Tensor | None, activations: Mapping[str, Tensor]) -> Tensor:
        """Scores [m] of activations by layer, float32 [m, N_l] as they are stored; differentiable."""
        return ((self._scores(activations) - self.middle) / self.spread).sum(1)

    @torch.no_grad()
    def score(self, versions: Versions) -> np.ndarray:
        return self.logits(None, self._read(versions)).numpy()

    def _scores(self, activations: Mapping[str, Tensor]) -> Tensor:
        """Each part's, before they are added up: float64 [m, parts]"""
        x = _joined(activations, self.chosen) - self.mean
        return torch.stack([part(x) for part in self.net], dim=1)

    def _read(self, versions: Versions) -> dict[str, Tensor]:
        return {layer: torch.from_numpy(versions.activations(layer)) for layer in self.chosen}

    def state(self) -> dict[str, Any]:
        return {
            "chosen": self.chosen, "mean": self.mean, "middle": self.middle, "spread": self.spread,
            "net": self.net.state_dict(),
        }  # fmt: skip

    def restored(self, state: dict[str, Any]) -> Self:
        for name in ("chosen", "mean", "middle", "spread"):
            setattr(self, name, state[name])
        self.net = nn.ModuleList(self._untrained(len(self.mean))).double().eval()
        self.net.load_state_dict(state["net"])
        return self

    def _untrained(self, width: int) -> list[_Part]:
        return [_Part(nn.Linear(width, 1, bias=False), nn.Flatten(0))]


class FisherMLP(Fisher):
    """Fisher's discriminant and a perceptron on the same whitened activations, added up.

    The perceptron has a linear unit beside its hidden layer. Both scores are taken in units of their spread
    over the originals of the validation: the discriminant holds for attacks that are not known, the
    perceptron sees more of those that are. It is trained by AdamW with a one-cycle schedule; the epoch with
    the best validation AUC is kept.
    """

    options: options.FisherMLP

    def parts(
        self, x: Tensor, y: Tensor, seen: Tensor, truth: np.ndarray, seed: int, damage: Tensor
    ) -> tuple[list[_Part], list[dict[str, float]]]:
        chosen = self.options
        discriminant, history = super().parts(x, y, seen, truth, seed, damage)
        torch.manual_seed(seed)
        damage, target = damage.float(), y.float()
        x, seen = x.float() @ damage, seen.float() @ damage
        perceptron = self._untrained(x.shape[1])[1]
        net = nn.Sequential(nn.Dropout(chosen.dropout), perceptron)
        # Originals, of which there are few, weigh as much as all attacks.
        loss_of = nn.BCEWithLogitsLoss(pos_weight=(~y).sum() / y.sum())
        # Of the answer 1/2 for all: log 2 an image, where attacks together weigh as much as the originals.
        guessed = 2 * float((~y).double().mean()) * log(2)
        optimizer = torch.optim.AdamW(net.parameters(), lr=chosen.lr, weight_decay=chosen.weight_decay)
        steps = chosen.epochs * -(-len(x) // chosen.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, chosen.lr, steps)
        best, kept = -1.0, perceptron.state_dict()
        for epoch in progress(range(1, chosen.epochs + 1), chosen.epochs, "epochs"):
            net.train()
            losses = []
            for rows in torch.randperm(len(x)).split(chosen.batch_size):
                optimizer.zero_grad(set_to_none=True)
                loss = loss_of(net(x[rows]), target[rows])
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.detach())
            mean = mean_loss(losses, epoch)
            net.eval()
            with torch.inference_mode():
                auc = areas.auc(truth, net(seen).numpy())
            history.append({"epoch": epoch, "loss": mean, "guessed_loss": guessed, "validation_auc": auc})
            if auc > best:
                best, kept = auc, copy.deepcopy(perceptron.state_dict())
        perceptron.load_state_dict(kept)
        with torch.no_grad():
            perceptron.first.weight = nn.Parameter(perceptron.first.weight @ damage.T)
        return [*discriminant, perceptron], history

    def _untrained(self, width: int) -> list[_Part]:
        hidden = self.options.hidden
        linear = nn.Linear(width, 1 + hidden)
        return [*super()._untrained(width), _Part(linear, _Bypassed(hidden, self.options.dropout))]


class _Bypassed(nn.Module):
    """The first input, and beside it a unit on the others."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.unit = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[m] of [m, 1 + hidden]"""
        return x[:, 0] + self.unit(x[:, 1:])[:, 0]


def _joined(activations: Mapping[str, Tensor], layers: Sequence[str]) -> Tensor:
    """Layers side by side: float64 [m, N]"""
    return torch.cat([activations[layer] for layer in layers], dim=1).double()


def _of_damage(train: Versions, layers: tuple[str, ...], options: options.Discriminant) -> Tensor:
    """M [N, N] that makes whitened activations white once more, where damage is added to how they vary.

    M M^T = (I + damage * mean d d^T)^-1, over all differences d that controls make to training images.
    """
    known = [name for name in train.sets if name in train.run.controls]
    whitened = train.run, layers, options.ridge
    one = torch.eye(len(_whitened(*whitened)[0]), dtype=torch.float64)
    if not known or not options.damage:
        return one
    # A case leaves out few of the controls, if any, and all have the others in common.
    left_out = tuple(name for name in train.run.controls if name not in known)
    sources = tuple(train.sources)
    scatter = _all_scattered(*whitened, sources) - _scattered(*whitened, sources, left_out)
    both = one + options.damage / (len(known) * len(sources)) * scatter
    # Triangular, so that the inverse is a substitution.
    return torch.linalg.solve_triangular(torch.linalg.cholesky(both), one, upper=False).T


@lru_cache(maxsize=1)
def _all_scattered(run: Run, layers: tuple[str, ...], ridge: float, sources: tuple[int, ...]) -> Tensor:
    return _scattered(run, layers, ridge, sources, tuple(run.controls))


def _scattered(
    run: Run, layers: tuple[str, ...], ridge: float, sources: tuple[int, ...], controls: tuple[str, ...]
) -> Tensor:
    """Sum of d d^T over the changes of controls to these images: float64 [N, N]"""
    mean, _, white = _whitened(run, layers, ridge)
    found = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    rows = list(sources)
    for name in controls:
        change = white[name][rows] - white[ORIGINAL][rows]
        found.addmm_(change.T, change)
    return found


# The cases of a run's protocols have it in common.
@lru_cache(maxsize=1)
def _whitened(run: Run, layers: tuple[str, ...], ridge: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Mean [N] of the reference, W [N, N], and of each set all (x - mean) W [n, N]; float64.

    W makes the reference white: W W^T = D^-1 (R + ridge I)^-1 D^-1 with the deviations D; a value that never
    varies has no part in it. Where the Gaussian is of other layers than these, R is decomposed here.
    """
    (path,) = run.joint.values()
    joint = store.read(path)
    names = np.repeat(joint.attrs["layers"], joint.attrs["widths"])
    taken = np.concatenate([np.flatnonzero(names == layer) for layer in layers])
    mean = torch.from_numpy(np.average(joint["mean"][:], axis=0, weights=joint["size"][:])[taken])
    if "vectors" in joint and joint.attrs["layers"] == list(layers):
        unit, values, vectors = joint["unit"][:], joint["values"][:], joint["vectors"][:].T
    else:
        # Imported here: with Dask, which takes as long to import as this detector to train.
        from detour.gaussians import correlations

        unit, values, vectors = correlations(joint["covariance"][:][np.ix_(taken, taken)])
    # In place: at the width of all layers, a copy is most of a gigabyte.
    vectors *= unit[:, None]
    vectors /= np.sqrt(np.maximum(values, 0) + ridge)
    whitening = torch.from_numpy(vectors)
    white = {}
    for name, path in run.activations.items():
        group = store.read(path)
        activations = {layer: torch.from_numpy(group[layer][:]) for layer in layers}
        white[name] = (_joined(activations, layers) - mean) @ whitening
    return mean, whitening, white
