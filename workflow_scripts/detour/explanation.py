"""Explanation: why a detector scores an image as it does: its path, the layers' parts, its neighbours."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from detour import detectors
from detour.detectors import Detector
from detour.distances import distances
from detour.options.detectors import PAPER_S
from detour.recorded import Recorded
from detour.typical import MEDIAN, PREPROCESSED, SQUEEZED

if TYPE_CHECKING:
    from detour.adaptive import Differentiable

# Steps of the integral, at whose midpoints the gradient is taken.
STEPS = 256

# Percentiles of genuine images that the band has.
BAND = (5, 50, 95)

# How many of the examples are named.
NEAREST = 5

# What an image leaves of the classifier beside its layers.
OUTPUT = "logits"

GRADIENT, WITHOUT = "integrated gradients", "leave one layer out"


@dataclass(frozen=True)
class Neighbour:
    """A reference image that is near at a layer.

    Attributes
    ----------
    name
        Of the image, or "" where it is not known.
    label
        Its class.
    distance
        L2 distance of the activations.
    picture : uint8 [3, S, S]
    """

    layer: str
    name: str
    label: str
    distance: float
    picture: np.ndarray


@dataclass(frozen=True)
class Explanation:
    """Why an image has its score.

    Attributes
    ----------
    file
        Its path, or "" of one in memory.
    predicted, runner_up, label
        Classes: of the highest and the second highest logit, and the true one, or "" if it is not known.
    p, score
        See `detour.Detector`; the score is the mean over the folds' detectors.
    leaves
        The layer from which on the nearest medoid is of another class than the predicted one, or "".
    layers
        In the order of the data.
    distance
        L2 distance at each layer to the medoid of the class `predicted`, `runner_up` and, if known, `label`.
    band
        By percentile, at each layer, the distances of genuine images to the medoid of that class: of those of
        the run's test that are rightly predicted as it, or of all classes where it has none.
    genuine
        Their number.
    of
        The class that they are of, or "" for all.
    method
        How the parts were found.
    baseline
        Score of the genuine image in their middle.
    parts
        By layer, what it adds to the score beside the baseline's; `logits` for what a detector reads of the
        classifier's output.
    unexplained
        score - baseline - all parts.
    among
        Reference images of each class among which neighbours are looked for.
    neighbours
        The nearest at the layer where the path leaves, and at the last, nearest first.
    pixels : uint8 [3, H, W]
        The image, as the network has seen it.
    """

    file: str
    predicted: str
    runner_up: str
    label: str
    p: float
    score: float
    leaves: str
    layers: list[str]
    distance: dict[str, list[float]]
    band: dict[str, list[float]]
    genuine: int
    of: str
    method: str
    baseline: float
    parts: dict[str, float]
    unexplained: float
    among: int
    neighbours: list[Neighbour]
    pixels: np.ndarray

    def numbers(self) -> dict[str, Any]:
        """All but the pictures, as JSON has it."""
        found = asdict(self)
        del found["pixels"]
        for neighbour in found["neighbours"]:
            del neighbour["picture"]
        return found


def explained(
    versions: Recorded, folds: Sequence[Detector], *,
    file: str, pixels: np.ndarray, label: int | None, p: float, leaves: int, differentiable: bool,
) -> Explanation:  # fmt: skip
    """Explain the score of one image.

    Parameters
    ----------
    versions
        Of the one image.
    folds
        The detectors whose mean score it is.
    label
        The true class, if that is known.
    leaves
        Number of the layer where its path leaves, L where it does not.
    differentiable
        Whether the detectors have `logits`.

    Notes
    -----
    The baseline is the genuine image in the middle of those of the predicted class. The parts of detectors
    with a gradient are its integrated gradients (Sundararajan et al. 2017) from the baseline's distances and
    activations to the image's, which add up to the difference of both scores but for the error of the sum. Of
    others, a part is what the score loses if a layer's activations are those of the baseline: what layers do
    together is in no part. Confidences after a step of the pixels are each of a layer, and what is said of
    squeezed images is of the classifier's output, which is one part: to squeeze has no layers.
    """
    bundle, layers = versions.bundle, versions.layers
    classes = bundle.about["classes"]
    predicted, runner_up = np.argsort(-versions.logits[0], kind="stable")[:2]
    shown = {"predicted": predicted, "runner_up": runner_up} | ({} if label is None else {"label": label})
    to_medoids = versions.to(*PAPER_S)[0]
    genuine = bundle.genuine
    own = genuine["class"] == predicted
    of = classes[predicted] if own.any() else ""
    paths = genuine["path"][own] if own.any() else genuine["path"]
    found = _baseline(versions, int(predicted))
    scores, middles = (
        np.mean([detectors.scored(fitted, each, str(bundle.path))[0] for fitted in folds])
        for each in (versions, Recorded(bundle, found))
    )
    part_of: Callable[..., dict[str, float]] = _integrated if differentiable else _left_out
    each_fold = [part_of(fitted, versions, found) for fitted in folds]
    parts = {name: float(np.mean([parts[name] for parts in each_fold])) for name in each_fold[0]}
    return Explanation(
        file=file,
        predicted=classes[predicted],
        runner_up=classes[runner_up],
        label="" if label is None else classes[label],
        p=p,
        score=float(scores),
        leaves=layers[leaves] if leaves < len(layers) else "",
        layers=list(layers),
        distance={name: to_medoids[:, c].tolist() for name, c in shown.items()},
        band={str(q): np.percentile(paths, q, axis=0).tolist() for q in BAND},
        genuine=len(paths),
        of=of,
        method=GRADIENT if differentiable else WITHOUT,
        baseline=float(middles),
        parts=parts,
        unexplained=float(scores - middles - sum(parts.values())),
        among=int(np.bincount(bundle.examples["label"]).max()),
        neighbours=[
            neighbour
            for layer in dict.fromkeys([layers[min(leaves, len(layers) - 1)], layers[-1]])
            for neighbour in _nearest(versions, layer)
        ],
        pixels=pixels,
    )


def _baseline(versions: Recorded, c: int) -> dict[str, np.ndarray]:
    """What is found of the genuine image in the middle of a class, as `Recorded` takes it."""
    held = versions.bundle.genuine.items()
    found = {name.removeprefix(MEDIAN): x[c][None] for name, x in held if name.startswith(MEDIAN)}
    return found | {"predicted": found[OUTPUT].argmax(1), "label": found[OUTPUT].argmax(1)}


def _integrated(
    fitted: "Differentiable", versions: Recorded, baseline: dict[str, np.ndarray]
) -> dict[str, float]:
    """Integrated gradients by layer, of the distances and the activations at it together."""
    start = Recorded(versions.bundle, baseline)
    ends = [
        [torch.from_numpy(of.distances[0]), *(torch.from_numpy(of.activations(n)[0]) for n in of.layers)]
        for of in (start, versions)
    ]
    share = (torch.arange(STEPS) + 0.5) / STEPS
    steps = [
        torch.lerp(a, b, share.view(-1, *[1] * a.dim())).requires_grad_() for a, b in zip(*ends, strict=True)
    ]
    with torch.enable_grad():
        logits = fitted.logits(steps[0], dict(zip(versions.layers, steps[1:], strict=True)))
        # What a detector does not read has no gradient.
        gradients = torch.autograd.grad(logits.sum(), steps, allow_unused=True, materialize_grads=True)
    of_distances, *of_layers = (
        (b - a).double() * gradient.double().mean(0) for a, b, gradient in zip(*ends, gradients, strict=True)
    )
    return {
        layer: float(of_distances[at].sum() + of_layers[at].sum()) for at, layer in enumerate(versions.layers)
    }


def _left_out(fitted: Detector, versions: Recorded, baseline: dict[str, np.ndarray]) -> dict[str, float]:
    """What the score loses where a layer, or the classifier's output, is the baseline's."""
    names = [*versions.layers, OUTPUT]
    found = {name: np.repeat(x, 1 + len(names), axis=0) for name, x in versions.found.items()}
    for row, name in enumerate(names, 1):
        found[name][row] = baseline[name][0]
    found["predicted"][-1] = baseline["predicted"][0]
    # What is said of squeezed images goes with the output, the confidence at a layer with that layer.
    layer = np.arange(len(versions.layers))
    for name, x in found.items():
        if name.startswith(SQUEEZED):
            x[-1] = baseline[name][0]
        if name.startswith(PREPROCESSED):
            x[1 + layer, layer] = baseline[name][0]
    scores = detectors.scored(fitted, Recorded(versions.bundle, found), str(versions.bundle.path))
    return {name: float(scores[0] - score) for name, score in zip(names, scores[1:], strict=True)}


def _nearest(versions: Recorded, layer: str) -> list[Neighbour]:
    """The nearest of the examples at a layer, nearest first."""
    about, held = versions.bundle.about, versions.bundle.examples
    far = distances(versions.activations(layer), held[f"activations/{layer}"])[0]
    return [
        Neighbour(
            layer,
            about["examples"][row],
            about["classes"][held["label"][row]],
            float(far[row]),
            held["image"][row],
        )
        for row in np.argsort(far, kind="stable")[:NEAREST]
    ]
