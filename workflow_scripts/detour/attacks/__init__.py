"""Attacks: the stored bytes are perturbed, within a budget that is checked on the stored bytes.

Each family of methods has a module here, and its options another.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detour import classifiers, methods, store
from detour.attacks.batch import NORMS, Batch, Start, pixels
from detour.classifiers import Classifier
from detour.datasets import Known
from detour.errors import InputError, RunError
from detour.images import targets
from detour.logs import logger, progress
from detour.options.attacks import Attack
from detour.seeds import draw
from detour.store import NO_TARGET, Made

BROKEN = (
    "attack {!r}: the network gave logits or gradients that are not finite; is the classifier broken? Check"
    " its weights, or use `precision: float32` where it is another"
)

# Of each class, so many reference images are tried as a start.
TRIED = 8

# Rounding error that float32 may add to a value within its budget, in pixels of 255.
SLACK = 1e-4


@contextmanager
def _finite(classifier: Classifier, name: str) -> Iterator[None]:
    """Refuse logits, and gradients of pixels, that are not finite.

    The class and the sign of what is not a number are numbers like others.

    Raises
    ------
    RuntimeError
        At the end, so that no step waits for a GPU.
    """
    finite = torch.ones((), dtype=torch.bool, device=classifier.mean.device)

    def see(value: Tensor) -> None:
        nonlocal finite
        finite = finite & value.isfinite().all()

    def before(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].requires_grad:
            inputs[0].register_hook(see)

    def after(module: torch.nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> None:
        see(logits.detach())

    hooks = [classifier.register_forward_pre_hook(before), classifier.register_forward_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        # In place of what a method said of it: CleverHans asserts.
        if not finite:
            raise RunError(BROKEN.format(name))


def adversarial(
    classifier: Classifier, images: np.ndarray, y: np.ndarray, attack: Attack, seeds: list[int],
    start: Start = lambda c: None, rows: slice | None = None, count: int = 0, names: Sequence[str] = (),
) -> np.ndarray:  # fmt: skip
    """Perturb one batch.

    Parameters
    ----------
    classifier
        Frozen, of pixels in [0, 1].
    images : uint8 [b, 3, H, W]
    y : int64 [b]
        Classes to aim at; the true ones for an attack without a target.
    seeds
        One per image, for attacks that draw.
    start
        Returns, for a class, an image uint8 [3, H, W] that is classified as it, or None; for `hop_skip_jump`.
    rows, count, names
        Which of the run's test images they are, how many and what all of these are called; for `files`.

    Returns
    -------
    uint8 [b, 3, H, W]
        Rounded; the change of each image is at most its budget. If rounding alone exceeds
        a budget in L1 or L2, the image is moved back towards the original by hundredths until it is within.

    Raises
    ------
    RuntimeError
        If the attack leaves its budget, or the network gives what is not finite.
    """
    if attack.budget == 0:
        return images.copy()
    device = classifier.mean.device
    x = pixels(images, device)
    batch = Batch(x, torch.from_numpy(y).to(device), seeds, start, rows, count, names)
    with _finite(classifier, attack.name):
        found = methods.loaded(attack.implementation)(classifier, batch, attack).detach()
    # Code from outside may have left it training.
    classifier.eval()
    if not found.isfinite().all():
        raise RunError(BROKEN.format(attack.name))
    eps = np.inf if attack.budget is None else attack.budget
    original = x.mul(255).round()
    within = _size(found * 255 - original, attack) <= eps + _size(torch.full_like(x[:1], SLACK), attack)
    while (over := within & (_size(found.mul(255).round() - original, attack) > eps)).any():
        found[over] = torch.lerp(x[over], found[over], 0.99)
    spent = _size(found.mul(255).round() - original, attack).amax().item()
    # Not `spent > eps`, which is False for what is not a number.
    if not spent <= eps:
        raise RunError(
            f"attack {attack.name!r}: changed an image by {spent:g} in {attack.budget_norm}, its eps is"
            f" {eps:g}"
        )
    return found.mul(255).round().to(torch.uint8).cpu().numpy()


def _size(change: Tensor, attack: Attack) -> Tensor:
    """Norm of each image's change, float64 [b]; whole numbers add up exactly."""
    return torch.linalg.vector_norm(change.double().flatten(1), NORMS[attack.budget_norm], dim=1)


def start_of(classifier: Classifier, dataset: Known, name: str, c: int) -> np.ndarray | None:
    """The first of a class's first reference images that is classified as it, uint8 [3, H, W]; None: none."""
    images = dataset.reference_images([c])
    for i in range(min(TRIED, len(images.names))):
        match images.images[i]:
            # What cannot be decoded is left out of the reference, too.
            case str():
                continue
            case (image, *_) if _predicted(classifier, image.numpy()[None], name) == c:
                return image.numpy()
    return None


def perturb(
    classifier: str | Path, images: str | Path, out: str | Path, *,
    attack: Attack, seed: int, batch_size: int, device: str, made: Made, precision: str = "float32",
    dataset: Known | None = None,
) -> None:  # fmt: skip
    """Store the perturbed version of a store of images, row for row.

    Parameters
    ----------
    classifier, images
        Paths of the classifier and of the original images.
    seed
        Seed of this run; the draws of an image depend on it, the attack's name and the image's key.
    precision
        Precision in which gradients are computed; see `detour.classifiers.load`.
    dataset
        Whose reference images `hop_skip_jump` starts from.

    Raises
    ------
    RuntimeError
        If the attack leaves its budget, or the network gives what is not finite.

    Notes
    -----
    `target` holds the classes aimed at, -1 where the attack has no target; `predicted` the predicted classes
    of the stored bytes in the precision of the attack.
    """
    net = classifiers.load(classifier, classifiers.device_of(device), precision)
    original = store.read(images)
    if attack.from_reference and dataset is None:
        raise InputError(
            f"attack {attack.name!r}: {attack.method} starts from the reference, and needs a dataset"
        )
    found = cache(partial(start_of, net, dataset, attack.name)) if dataset else lambda c: None
    label, source, keys = (original[name][:] for name in ("label", "source", "key"))
    target = original["target"][:]
    if attack.aim == "random":
        target = targets(label, len(original.attrs["classes"]), seed, f"target of {attack.name}", keys)
    n, still, names = len(label), 0, original.attrs.get("names", [])

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        nonlocal still
        starts = range(0, n, batch_size)
        for start in progress(starts, len(starts), f"{attack.name}: batches of {batch_size}"):
            rows = slice(start, start + batch_size)
            seeds = [int(draw(seed, f"draws of {attack.name}", i).integers(2**63)) for i in keys[rows]]
            y, aimed = label[rows], np.full_like(label[rows], NO_TARGET)
            if attack.targeted:
                y = aimed = target[rows]
            try:
                perturbed = adversarial(
                    net, original["images"][rows], y, attack, seeds, found, rows, n, names
                )
                predicted = _predicted(net, perturbed, attack.name)
            except RuntimeError as error:
                where = f"{images}, sources {source[rows][0]} to {source[rows][-1]}"
                raise RunError(f"{where}: {error}") from error
            still += int((perturbed == original["images"][rows]).all((1, 2, 3)).sum())
            yield {
                "images": perturbed,
                "predicted": predicted,
                "label": label[rows],
                "target": aimed,
                "source": source[rows],
            }

    attributes = {"classes": original.attrs["classes"], "device": str(net.mean.device)}
    with store.create(out, made, [classifier, images], **attributes) as group:
        store.write(group, blocks())
    # Without a budget, an image that is classified wrong from the start needs no change.
    if still and (attack.files or attack.budget):
        why = (
            f"{attack.files} has the originals in their place; where that is not meant, correct `path`"
            if attack.files
            else "their gradient is 0, as where logits are so far apart that softmax is 1, or what changed"
            " was rounded away; figures of it make the network look robust"
        )
        logger.warning("%s: %d of %d images are as they were: %s", attack.name, still, n, why)


@torch.inference_mode()
def _predicted(classifier: Classifier, images: np.ndarray, name: str) -> np.ndarray:
    logits = classifier(pixels(images, classifier.mean.device))
    if not logits.isfinite().all():
        raise RunError(BROKEN.format(name))
    return logits.argmax(1).cpu().numpy()
