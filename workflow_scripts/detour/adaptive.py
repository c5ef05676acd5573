"""Adaptive attacks: on the classifier and on the detector at once, by an attacker who knows both.

Activations, distances and detector are one differentiable function of the pixels, so that both losses have a
gradient. All reported figures are computed from the stored bytes, as in the other stages.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from detour import classifiers, detectors, store, tables
from detour.activations import Recorder, record
from detour.classifiers import Classifier
from detour.detectors import Detector, Run, Versions
from detour.distances import distances
from detour.errors import InputError, RunError
from detour.folds import sources
from detour.images import targets
from detour.logs import progress
from detour.metrics import threshold, wilson
from detour.options.adaptive import Attack
from detour.seeds import draw
from detour.store import NO_TARGET, ORIGINAL, Made


class Differentiable(Detector, Protocol):
    """A detector with a gradient."""

    def logits(self, distances: Tensor, activations: Mapping[str, Tensor]) -> Tensor:
        """The logits behind `score`, [m], with their gradient.

        Parameters
        ----------
        distances : float [m, L, C]
        activations : float [m, N_l]
            By layer.
        """


@dataclass(frozen=True)
class Seen:
    """The outputs of a classifier and its detector for a batch.

    Attributes
    ----------
    logits : float [b, C]
        Of the classifier.
    distances : float [b, L, C]
    score : float [b]
        Of the detector.
    """

    logits: Tensor
    distances: Tensor
    score: Tensor


class Defence:
    """A classifier with a detector beside it, as one differentiable function of pixels in [0, 1].

    Parameters
    ----------
    classifier
        Frozen.
    layers, medoids
        Layers that are compared, and their medoids, float32 [C, N_l] each.
    threshold
        Images with a higher score are flagged.
    """

    def __init__(
        self,
        classifier: Classifier,
        layers: list[str],
        medoids: Sequence[np.ndarray],
        detector: Differentiable,
        threshold: float,
    ) -> None:
        self.classifier, self.layers = classifier, layers
        self.detector, self.threshold = detector, threshold
        self.device = classifier.mean.device
        self._medoids = [torch.from_numpy(m).to(self.device) for m in medoids]
        self._recorder = Recorder(classifier, layers)

    def __call__(self, x: Tensor) -> Seen:
        logits = self.classifier(x)
        averages = {name: self._recorder.averages[name] for name in self.layers}
        measured = torch.stack(
            [
                # The gradient at distance 0 is 0; a distance by matrix products would lose digits.
                torch.cdist(average, m, compute_mode="donot_use_mm_for_euclid_dist")
                for average, m in zip(averages.values(), self._medoids, strict=True)
            ],
            dim=1,
        )
        # On the CPU: cuDNN has no gradient of recurrent networks in evaluation, and this one is small.
        on_cpu = {name: average.cpu() for name, average in averages.items()}
        score = self.detector.logits(measured.cpu(), on_cpu).float().to(self.device)
        return Seen(logits, measured, score)


@dataclass(frozen=True)
class Losses:
    """Losses of a batch with pixels `x`; each [b], with its graph.

    Attributes
    ----------
    classification
        -log of the probability of the classes that are wanted.
    detection
        The detector's score.
    matching
        Sum over layers of the distance to the medoid of the class aimed at, relative to that at the start.
    succeeded : bool [b]
        Whether the batch is classified as wanted.
    """

    x: Tensor
    classification: Tensor
    detection: Tensor
    matching: Tensor
    succeeded: Tensor


def _pgd(losses: Losses, weight: float) -> Tensor:
    """Madry et al. 2018 on classification + lambda * detection, as Carlini and Wagner 2017 on detectors."""
    return _gradient(losses.classification + weight * losses.detection, losses.x)


def _selective(losses: Losses, weight: float) -> Tensor:
    """Bryniarski et al. 2021, Selective PGD: L(x) 1[not as wanted] + g(x) 1[as wanted], image by image."""
    chosen = torch.where(losses.succeeded, losses.detection, losses.classification)
    return _gradient(chosen, losses.x)


def _orthogonal(losses: Losses, weight: float) -> Tensor:
    """Bryniarski et al. 2021, Orthogonal PGD: Selective PGD, each gradient orthogonal to the other loss's.

    Before the sign is taken, a step for one loss then leaves the other unchanged to first order.
    """
    classification = _gradient(losses.classification, losses.x, again=True)
    detection = _gradient(losses.detection, losses.x)
    return torch.where(
        losses.succeeded.view(-1, 1, 1, 1),
        orthogonal(detection, classification),
        orthogonal(classification, detection),
    )


def _medoids(losses: Losses, weight: float) -> Tensor:
    """Feature matching (Sabour et al. 2016): towards the path of a genuine image, without the detector."""
    return _gradient(losses.classification + weight * losses.matching, losses.x)


# A new adaptive attack is one function and one line here, and its name one word of the schema.
METHODS: dict[str, Callable[[Losses, float], Tensor]] = {
    "pgd": _pgd,
    "selective": _selective,
    "orthogonal": _orthogonal,
    "medoids": _medoids,
}


def _gradient(loss: Tensor, x: Tensor, *, again: bool = False) -> Tensor:
    """Gradient of each image's loss; `again` keeps the graph for another one."""
    # The gradient of the sum: no image's loss depends on another's pixels.
    return torch.autograd.grad(loss.sum(), x, retain_graph=again)[0]


def orthogonal(v: Tensor, u: Tensor) -> Tensor:
    """v - proj_u v of each row; v where u is 0.

    Parameters
    ----------
    v, u : float [b, ...]

    Returns
    -------
    float64 [b, ...]
        In double precision: squares of small gradients are 0 in float32.
    """
    flat, along = v.double().flatten(1), u.double().flatten(1)
    along = along / along.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return (flat - (flat * along).sum(1, keepdim=True) * along).view_as(v)


def losses_of(seen: Seen, x: Tensor, wanted: Tensor, aim: Tensor, start: Tensor) -> Losses:
    """Losses of a batch.

    Parameters
    ----------
    x : float [b, 3, H, W]
        The pixels.
    wanted : bool [b, C]
        Classes that the attacker wants an image to have.
    aim : int64 [b]
        The class of the medoids to match.
    start : float [b, L]
        Distances to them before the attack.
    """
    among = seen.logits.masked_fill(~wanted, -torch.inf)
    return Losses(
        x=x,
        classification=seen.logits.logsumexp(1) - among.logsumexp(1),
        detection=seen.score,
        matching=(_to(aim, seen.distances) / start).sum(1),
        succeeded=among.amax(1) == seen.logits.amax(1),
    )


def _to(c: Tensor, distances: Tensor) -> Tensor:
    """Distances [b, L] to the medoids of one class each."""
    return distances[torch.arange(len(c), device=c.device), :, c]


@dataclass(frozen=True)
class Evasion:
    """The result of an attack on a batch, and its losses step by step.

    Attributes
    ----------
    images : uint8 [b, 3, H, W]
    classification, detection : float32 [b, steps + 1]
        Losses before each step and after the last.
    """

    images: np.ndarray
    classification: np.ndarray
    detection: np.ndarray


def evade(
    defence: Defence, images: np.ndarray, wanted: np.ndarray, eps: np.ndarray, attack: Attack
) -> Evasion:
    """Attack one batch by projected steps along the sign of a gradient, from the images themselves.

    Gradients are computed at the rounded pixels, and the best of all rounded iterates of an image is kept.
    One that is classified as wanted and not flagged is better than one that is only classified as wanted, and
    that is better than the others. Among equals, the lowest detection score is best or, if none is classified
    as wanted, the lowest classification loss.

    Parameters
    ----------
    images : uint8 [b, 3, H, W]
    wanted : bool [b, C]
        Classes that the attacker wants an image to have.
    eps : int64 [b]
        Budget of each image, in pixels of 255.

    Raises
    ------
    RuntimeError
        If the attack leaves its budget, or the network or the detector gives what is not finite.
    """
    origin = torch.from_numpy(images).to(defence.device).float()
    budget = torch.from_numpy(eps).to(defence.device).float().view(-1, 1, 1, 1)
    low, high = (origin - budget).clamp_min(0), (origin + budget).clamp_max(255)
    allowed = torch.from_numpy(wanted).to(defence.device)
    moving, kept = origin, origin.clone()
    best = torch.full((len(images), 2), torch.inf, device=defence.device)
    course: list[Tensor] = []
    for i in progress(range(attack.steps + 1), attack.steps + 1, f"{attack.method}: steps"):
        x = moving.round().div(255).requires_grad_()
        with torch.set_grad_enabled(i < attack.steps):
            seen = defence(x)
            if not course:
                # The target, or the likeliest of the wrong classes.
                aim = seen.logits.masked_fill(~allowed, -torch.inf).argmax(1)
                start = _to(aim, seen.distances).detach().clamp_min(torch.finfo(torch.float32).tiny)
            losses = losses_of(seen, x, allowed, aim, start)
        course.append(torch.stack([losses.classification, losses.detection], dim=1).detach())
        _refuse_unless_finite(course[-1], attack.method, "losses", i)

        passes = losses.succeeded & (seen.score <= defence.threshold)
        missed = 2 - losses.succeeded.float() - passes.float()
        loss = torch.where(losses.succeeded, losses.detection, losses.classification).detach()
        better = (missed < best[:, 0]) | (missed == best[:, 0]) & (loss < best[:, 1])
        best[better] = torch.stack([missed, loss], dim=1)[better]
        kept[better] = moving.round()[better]

        if i < attack.steps:
            size = attack.step * budget / attack.steps * (1 - i / attack.steps)
            gradient = METHODS[attack.method](losses, attack.weight)
            _refuse_unless_finite(gradient, attack.method, "gradients", i)
            moving = (moving - size * gradient.sign().float()).clamp(low, high)
    perturbed = kept.to(torch.uint8).cpu().numpy()
    spent = np.abs(perturbed.astype(np.int16) - images).max((1, 2, 3), initial=0)
    if (spent > eps).any():
        row = (spent - eps).argmax()
        raise RunError(f"{attack.method}: moved a pixel by {spent[row]}, its eps is {eps[row]}")
    classification, detection = torch.stack(course, dim=2).cpu().numpy().transpose(1, 0, 2)
    return Evasion(perturbed, classification, detection)


def _refuse_unless_finite(values: Tensor, method: str, what: str, step: int) -> None:
    """Comparisons with what is not a number are False, and its sign is 0: the image would stay as it is."""
    finite = values.isfinite().flatten(1).all(1)
    if not finite.all():
        raise RunError(
            f"adaptive.methods: {method}: {what} of step {step} are not finite for {(~finite).sum()} of"
            f" {len(finite)} images; is the classifier or the detector broken? Check the classifier's weights"
        )


def judge(
    classifier: Classifier, layers: list[str], medoids: Sequence[np.ndarray], detector: Differentiable,
    images: np.ndarray, batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Predicted classes, int64 [n], and detection scores, float64 [n], computed as in the other stages."""
    batches = (torch.from_numpy(images[i : i + batch_size]) for i in range(0, len(images), batch_size))
    recorded = list(record(classifier, layers, ((x, torch.zeros(len(x))) for x in batches)))

    def all_of(name: str) -> np.ndarray:
        return np.concatenate([batch[name] for batch in recorded])

    averages = {name: all_of(name) for name in layers}
    measured = [distances(averages[name], m) for name, m in zip(layers, medoids, strict=True)]
    with torch.no_grad():
        score = detector.logits(
            torch.from_numpy(np.stack(measured, axis=1).astype(np.float32)),
            {name: torch.from_numpy(activations) for name, activations in averages.items()},
        )
    return all_of("predicted"), score.double().numpy()


def adapt(
    classifier: str | Path, images: str | Path, activations: str | Path, distances: str | Path,
    medoids: Sequence[str | Path], folds: str | Path, model: str | Path, out: str | Path, *,
    attack: Attack, name: str, fold: int, seed: int, batch_size: int, device: str, made: Made,
) -> None:  # fmt: skip
    """Attack test images of a fold that are classified right, at every eps, and store the results.

    Rows are images times eps, eps slowest: images uint8 [m, 3, H, W]; eps, source, label, target (-1 where
    there is none), predicted and linf (the largest change of a pixel of 255) int64 [m]; score float64 [m];
    flagged and succeeded (classified as wanted) bool [m]; classification and detection, the losses before
    each step and after the last, float32 [m, steps + 1].

    Parameters
    ----------
    images, activations, distances
        Stores of the originals.
    medoids
        Stores of the medoids, in the order of the layers.
    model
        Model of the detector, trained on this fold.
    seed
        Seed of this run, for the choice of images and for random targets.
    """
    detector: Differentiable = detectors.load(model)  # type: ignore[assignment]
    run = Run(distances={ORIGINAL: distances}, activations={ORIGINAL: activations})
    genuine = Versions(run, sources(folds, fold, "validation"))
    limit = threshold(detectors.scored(detector, genuine, f"detector {name!r}, fold {fold}"), attack.fpr)
    if np.isinf(limit):
        raise InputError(
            f"adaptive.fpr: found {attack.fpr}, which needs at least {math.ceil(1 / attack.fpr) - 1}"
            f" validation images, and the fold has {len(genuine.source)}; use a higher rate, fewer folds or"
            " more test images"
        )
    stores = [store.read(path) for path in medoids]
    layers = [found.attrs["layer"] for found in stores]
    representatives = [found["medoid"][:] for found in stores]
    # In float32, as the verdict is.
    net = classifiers.load(classifier, classifiers.device_of(device), keep=layers)
    defence = Defence(net, layers, representatives, detector, limit)

    original = store.read(images)
    classes, keys = original.attrs["classes"], original["key"][:]
    chosen = _chosen(store.read(distances)["predicted"][:], original["label"][:], attack.images, seed,
                     sources(folds, fold, "test"), keys)  # fmt: skip
    label, target = original["label"][:], original["target"][:]
    if attack.target == "random":
        target = targets(label, len(classes), seed, "target of adaptive", keys)
    if attack.target == "none":
        target = np.full_like(label, NO_TARGET)

    before = original["images"].oindex[chosen]
    rows = np.tile(np.arange(len(chosen)), len(attack.eps))
    eps = np.repeat(np.array(attack.eps, dtype=np.int64), len(chosen))
    label, target = label[chosen][rows], target[chosen][rows]
    wanted = wanted_of(label, target, len(classes))
    about = {
        "detector": name, "method": attack.method, "fold": fold, "fpr": attack.fpr, "threshold": limit,
        "classes": classes, "layers": layers, "device": str(defence.device),
    }  # fmt: skip
    made_of = [classifier, images, activations, distances, *medoids, folds, model]
    with store.create(out, made, made_of, **about) as group:
        parts = [slice(start, start + batch_size) for start in range(0, len(rows), batch_size)]
        found = [
            evade(defence, before[rows[part]], wanted[part], eps[part], attack)
            for part in progress(parts, len(parts), f"{attack.method} on {name}: batches of {batch_size}")
        ]
        after = np.concatenate([part.images for part in found])
        predicted, score = judge(net, layers, representatives, detector, after, batch_size)
        arrays = {
            "images": after,
            "eps": eps,
            "source": chosen[rows],
            "label": label,
            "target": target,
            "predicted": predicted,
            "linf": np.abs(after.astype(np.int64) - before[rows]).max((1, 2, 3)),
            "score": score,
            "flagged": score > limit,
            "succeeded": wanted[np.arange(len(rows)), predicted],
            "classification": np.concatenate([part.classification for part in found]),
            "detection": np.concatenate([part.detection for part in found]),
        }
        store.write(group, [arrays])


def _chosen(
    predicted: np.ndarray, label: np.ndarray, at_most: int, seed: int, tested: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    """Sources, ascending, drawn from those classified right; one more image changes no other's draw."""
    right = tested[predicted[tested] == label[tested]]
    if not len(right):
        raise InputError(
            "adaptive: found no test image of the fold that is classified right, expected at least one; use"
            " another of `adaptive.folds`, more test images or a better classifier"
        )
    order = np.argsort([draw(seed, "images of adaptive", key).random() for key in keys[right]])
    return np.sort(right[order[:at_most]])


def wanted_of(label: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Classes that an attacker wants, bool [n, classes]: the target, or without one all but the true one."""
    c = np.arange(classes)
    aimed = target[:, None]
    return np.where(aimed == NO_TARGET, c != label[:, None], c == aimed)


def tabulate(adapted: Sequence[str | Path], out: str | Path, *, made: Made) -> None:
    """Write the table: detector, method, fold, eps, images, succeeded, flagged, evaded, share, low, high.

    `succeeded` counts the images that are classified as wanted, `flagged` all that the detector flags, and
    `evaded` those that are classified as wanted and not flagged; `share` is evaded of all images, `low` and
    `high` its 95 % interval by Wilson, over images alone: it does not cover other detectors or folds.

    Parameters
    ----------
    adapted
        Stores of `adapt`.
    """
    rows = []
    for path in adapted:
        found = store.read(path)
        table = pd.DataFrame({name: found[name][:] for name in ("eps", "succeeded", "flagged")})
        table["evaded"] = table["succeeded"] & ~table["flagged"]
        for eps, images in table.groupby("eps"):
            counts = images[["succeeded", "flagged", "evaded"]].sum()
            low, high = wilson(counts["evaded"], len(images))
            rows.append({
                **{name: found.attrs[name] for name in ("detector", "method", "fold")},
                "eps": eps, "images": len(images), **counts,
                "share": counts["evaded"] / len(images), "low": low, "high": high,
            })  # fmt: skip
    tables.write(out, pd.DataFrame(rows), made, adapted, csv=True)
