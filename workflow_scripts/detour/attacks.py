"""Attacks: CleverHans perturbs the stored bytes, within a budget that is checked on the stored bytes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.noise import noise
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from torch import Tensor

from detour import classifiers, store
from detour.classifiers import Classifier
from detour.images import targets
from detour.logs import progress
from detour.seeds import draw
from detour.store import NO_TARGET, Made


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One entry of `attacks` in the configuration; sizes in pixels of 255.

    Parameters
    ----------
    eps
        L-infinity budget.
    target
        `dataset`: the target stored with the image; `random`: one drawn for this attack; None: none.
    steps, step
        Number and size of the steps of an iterated attack.
    """

    name: str
    method: str
    eps: int
    target: str | None = None
    steps: int = 1
    step: float = 0


def _fgsm(classifier: Classifier, x: Tensor, y: Tensor, attack: Attack, seeds: list[int]) -> Tensor:
    """Goodfellow et al. 2015, one step down the loss of the target."""
    return fast_gradient_method(classifier, x, attack.eps / 255, np.inf, 0, 1, y=y, targeted=True)


def _iterative(classifier: Classifier, x: Tensor, y: Tensor, attack: Attack, seeds: list[int]) -> Tensor:
    """Kurakin et al. 2016: steps of FGSM clipped to the budget, without a random start."""
    return projected_gradient_descent(
        classifier, x, attack.eps / 255, attack.step / 255, attack.steps, np.inf, 0, 1,
        y=y, targeted=True, rand_init=False,
        # They fail off the CPU; the budget is checked on the stored bytes instead.
        sanity_checks=False,
    )  # fmt: skip


def _noise(classifier: Classifier, x: Tensor, y: Tensor, attack: Attack, seeds: list[int]) -> Tensor:
    """Uniform in [-eps, eps], image by image because CleverHans draws from torch's global generator."""
    noisy = []
    with torch.random.fork_rng(devices=[]):
        # On the CPU, whose generator gives the same draws on every machine.
        for image, seed in zip(x.cpu(), seeds, strict=True):
            torch.manual_seed(seed)
            noisy.append(noise(image, attack.eps / 255, np.inf, 0, 1))
    return torch.stack(noisy)


# A new method is one function and one line here, and its options one entry of the schema.
METHODS: dict[str, Callable[[Classifier, Tensor, Tensor, Attack, list[int]], Tensor]] = {
    "fgsm": _fgsm,
    "iterative": _iterative,
    "noise": _noise,
}


def adversarial(
    classifier: Classifier, images: np.ndarray, target: np.ndarray, attack: Attack, seeds: list[int]
) -> np.ndarray:
    """Perturb one batch.

    Parameters
    ----------
    classifier
        Frozen, of pixels in [0, 1].
    images : uint8 [b, 3, H, W]
    target : int64 [b]
        Classes to aim at.
    seeds
        One per image, for attacks that draw.

    Returns
    -------
    uint8 [b, 3, H, W]
        Rounded, at most `attack.eps` from `images` in every pixel.

    Raises
    ------
    RuntimeError
        If the attack leaves its budget.
    """
    device = classifier.mean.device
    x = torch.from_numpy(images).to(device).float().div(255)
    y = torch.from_numpy(target).to(device)
    found = METHODS[attack.method](classifier, x, y, attack, seeds).detach()
    perturbed = found.mul(255).round().to(torch.uint8).cpu().numpy()
    spent = np.abs(perturbed.astype(np.int16) - images).max(initial=0)
    if spent > attack.eps:
        raise RuntimeError(f"attack {attack.name!r}: moved a pixel by {spent}, its eps is {attack.eps}")
    return perturbed


def perturb(
    classifier: str | Path, images: str | Path, out: str | Path, *,
    attack: Attack, seed: int, batch_size: int, device: str, made: Made, precision: str = "float32",
) -> None:  # fmt: skip
    """Store the perturbed version of a store of images, row for row.

    Parameters
    ----------
    classifier, images
        Paths of the classifier and of the original images.
    seed
        Of this run; what an image draws depends on it, the attack's name and the image's source.
    precision
        That gradients are computed in; see `detour.classifiers.load`.

    Notes
    -----
    `target` holds the classes aimed at, -1 where the attack has no target; `predicted` what the classifier
    takes the stored bytes for in the precision of the attack.
    """
    net = classifiers.load(classifier, classifiers.device_of(device), precision)
    original = store.read(images)
    label, source = original["label"][:], original["source"][:]
    target = original["target"][:]
    if attack.target == "random":
        target = targets(label, len(original.attrs["classes"]), seed, f"target of {attack.name}")
    n = len(label)

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        starts = range(0, n, batch_size)
        for start in progress(starts, len(starts), f"{attack.name}: batches of {batch_size}"):
            rows = slice(start, start + batch_size)
            seeds = [int(draw(seed, f"draws of {attack.name}", i).integers(2**63)) for i in source[rows]]
            aimed = target[rows] if attack.target else np.full_like(target[rows], NO_TARGET)
            perturbed = adversarial(net, original["images"][rows], target[rows], attack, seeds)
            yield {
                "images": perturbed,
                "predicted": _predicted(net, perturbed),
                "label": label[rows],
                "target": aimed,
                "source": source[rows],
            }

    attributes = {"classes": original.attrs["classes"], "device": str(net.mean.device)}
    with store.create(out, made, [classifier, images], **attributes) as group:
        store.write(group, blocks())


@torch.inference_mode()
def _predicted(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(images).to(classifier.mean.device).float().div(255)
    return classifier(x).argmax(1).cpu().numpy()
