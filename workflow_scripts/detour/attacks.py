"""Attacks: CleverHans perturbs the stored bytes, within a budget that is checked on the stored bytes.

CleverHans 4.0.0 is called with these faults in mind:

- where it takes gradients, those of the network's parameters accumulate unless they are frozen, and what it
  returns still carries its graph; where `eps` is 0 it returns its input itself;
- its draws come from torch's global generator and depend on the batch: here every image has its own;
- its sanity checks fail off the CPU;
- an attack that is not told the class aims at, or away from, the one that the model sees;
- PGD: a step in L2 is no step where the gradient is small, which in a mean over the batch it soon is;
- Carlini-Wagner: one constant, the mean of the batch's, weighs every image, so that what is found depends on
  the batch;
- SPSA: the gradient is estimated at twice the image, wherever the perturbation is;
- hop-skip-jump: an image of more than some 60,000 values is bisected for ever, as is one without a start that
  fools the model; uniform noise, its own start, often has one class only; a start without a batch of its own
  is searched once per channel; what the model misreads already is led away from the wrong class;
- sparse L1 descent: images whose channels come last in memory are an error; a random start is overwritten.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.hop_skip_jump_attack import hop_skip_jump_attack
from cleverhans.torch.attacks.noise import noise
from cleverhans.torch.attacks.sparse_l1_descent import sparse_l1_descent
from cleverhans.torch.attacks.spsa import _compute_spsa_gradient, _margin_logit_loss, _project_perturbation
from cleverhans.torch.utils import clip_eta
from torch import Tensor

from detour import classifiers, store
from detour.classifiers import LOSS_SCALE, Classifier
from detour.errors import InputError, RunError
from detour.images import Known, targets
from detour.logs import logger, progress
from detour.seeds import draw
from detour.store import NO_TARGET, Made

BROKEN = (
    "attack {!r}: the network gave logits or gradients that are not finite; is the classifier broken? Check"
    " its weights, or use `precision: float32` where it is another"
)

# An image to start from, of a class.
Start = Callable[[int], np.ndarray | None]

# Of each class, so many reference images are tried as a start.
TRIED = 8

NORMS = {"linf": np.inf, "l2": 2, "l1": 1}

# Rounding error that float32 may add to a value within its budget, in pixels of 255.
SLACK = 1e-4


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One entry of `attacks` in the configuration; sizes in pixels of 255.

    Parameters
    ----------
    eps
        Budget of the change of an image, in `norm`; None: no budget.
    target
        `dataset`: the target stored with the image; `random`: one drawn for this attack; `none`: untargeted,
        away from the true class; None: the method uses no class.
    norm
        `linf`, `l2` or `l1`.
    steps, step
        Number and size of the steps of an iterated attack; step None: by eps and steps.
    random_start
        Whether PGD starts at a random point of the ball.
    decay
        Decay of the momentum.
    sparsity
        Percentage of the values that a step of `sparse_l1` leaves alone.
    samples
        Points, or pairs of them, that a step of an attack without gradients looks at.
    delta
        Distance from the image to the points that SPSA looks at, in pixels of 255.
    lr
        Rate of Adam: of SPSA in pixels of 255, of Carlini-Wagner in the space of tanh.
    searches, confidence
        Rounds of Carlini-Wagner's search for its constant, and the margin of the logits that is required.
    """

    name: str
    method: str
    eps: float | None = None
    target: str | None = None
    norm: str = "linf"
    steps: int = 1
    step: float | None = None
    random_start: bool = False
    decay: float = 0
    sparsity: float = 99
    samples: int = 1
    delta: float = 0
    lr: float = 0
    searches: int = 1
    confidence: float = 0

    @property
    def targeted(self) -> bool:
        """Whether a class is aimed at."""
        return self.target in ("dataset", "random")

    @property
    def radius(self) -> float:
        """The budget in pixels of 1."""
        return (self.eps or 0) / 255

    def stride(self, reach: float) -> float:
        """Size of a step in pixels of 1; where none is given, all steps together go `reach` times eps."""
        return self.step / 255 if self.step else min(1, reach / self.steps) * self.radius


@dataclass(frozen=True)
class Batch:
    """Images under attack.

    Parameters
    ----------
    x : float32 [b, 3, H, W]
        Pixels in [0, 1].
    y : int64 [b]
        Classes to aim at; the true ones for an attack without a target.
    seeds
        One per image, for attacks that draw.
    start
        Returns, for a class, an image uint8 [3, H, W] that is classified as it; None if there is none.
    """

    x: Tensor
    y: Tensor
    seeds: list[int]
    start: Start


Model = Callable[[Tensor], Tensor]


def _fgsm(classifier: Classifier, batch: Batch, attack: Attack) -> Tensor:
    """Goodfellow et al. 2015, one step down the loss of the target, or up that of the true class."""
    return fast_gradient_method(
        classifier, batch.x, attack.radius, np.inf, 0, 1, y=batch.y, targeted=attack.targeted
    )


def _pgd(classifier: Classifier, batch: Batch, attack: Attack) -> Tensor:
    """Kurakin et al. 2016 and Madry et al. 2018: steps of FGSM projected onto the ball, from within it.

    With L2 a step goes along the gradient, of length `step`. Steps that are not given are 2.5 eps / steps.
    """
    model = classifier if attack.norm == "linf" else _with_gradient(classifier, _unit)
    return _stepped(model, batch, attack, attack.stride(2.5))


def _mifgsm(classifier: Classifier, batch: Batch, attack: Attack) -> Tensor:
    """Dong et al. 2018, eq. 6 and 7: steps along the sign of g = decay g + gradient / |gradient|_1.

    Steps that are not given are eps / steps.
    """
    momentum = torch.zeros_like(batch.x)

    def accumulated(gradient: Tensor) -> Tensor:
        nonlocal momentum
        # The mean in place of the sum scales every g by the same, and an image without a gradient gets none.
        size = gradient.abs().mean((1, 2, 3), keepdim=True)
        momentum = attack.decay * momentum + torch.where(size == 0, 0, gradient / size)
        return momentum

    return _stepped(_with_gradient(classifier, accumulated), batch, attack, attack.stride(1))


def _stepped(model: Model, batch: Batch, attack: Attack, step: float) -> Tensor:
    """CleverHans' PGD around its FGSM, with a start that is drawn for each image."""
    norm = NORMS[attack.norm]
    found = batch.x
    if attack.random_start:
        found = (found + _in_ball(batch, attack)).clamp(0, 1)
    for _ in range(attack.steps):
        found = fast_gradient_method(model, found, step, norm, 0, 1, y=batch.y, targeted=attack.targeted)
        found = (batch.x + clip_eta(found.detach() - batch.x, norm, attack.radius)).clamp(0, 1)
    return found


def _in_ball(batch: Batch, attack: Attack) -> Tensor:
    """A point of the ball for each image, uniform, float32 [b, 3, H, W].

    On the CPU, whose generator gives the same draws on every machine.
    """
    points = []
    for seed in batch.seeds:
        generator, shape = torch.Generator().manual_seed(seed), batch.x.shape[1:]
        if attack.norm == "linf":
            points.append(torch.rand(shape, generator=generator) * 2 - 1)
        else:
            direction = torch.randn(shape, generator=generator)
            length = torch.rand((), generator=generator) ** (1 / direction.numel())
            points.append(direction * length / direction.norm())
    return torch.stack(points).to(batch.x.device) * attack.radius


def _sparse_l1(classifier: Classifier, batch: Batch, attack: Attack) -> Tensor:
    """Tramer and Boneh 2019: steps in L1 along the largest of the gradient that the pixels can follow."""
    return sparse_l1_descent(
        classifier, batch.x, attack.radius, attack.stride(2.5), attack.steps,
        y=batch.y, targeted=attack.targeted, clip_min=0, clip_max=1, clip_grad=True,
        grad_sparsity=float(attack.sparsity), sanity_checks=False,
    )  # fmt: skip


def _carlini_wagner(classifier: Classifier, batch: Batch, attack: Attack) -> Tensor:
    """Carlini and Wagner 2017: the least c f + |change|^2 by Adam, c by bisection, for each image.

    The classifier sees rounded pixels, and the gradient ignores the rounding, so that the result is
    adversarial as bytes. An image for which the search fails stays unchanged.
    """

    def rounding(x: Tensor) -> Tensor:
        return classifier(_as_bytes(x))

    x, y = batch.x, batch.y
    weight, low, high = (x.new_full((len(x),), value) for value in (0.01, 0, torch.inf))
    best, least = x.clone(), x.new_full((len(x),), torch.inf)
    # Undo float16's gradient scale, which would change the trade-off of loss and change.
    scale = LOSS_SCALE if classifier.dtype is torch.float16 else 1
    classes = classifier(x[:1]).shape[1]
    handicap = torch.nn.functional.one_hot(y, classes) * attack.confidence * (-1 if attack.targeted else 1)
    for _ in range(attack.searches):
        weighted = weight.div(scale).view(-1, 1, 1, 1)
        found = carlini_wagner_l2(
            _with_gradient(rounding, partial(torch.mul, weighted)), x, classes,
            y=y, targeted=attack.targeted, lr=attack.lr, confidence=attack.confidence,
            initial_const=1, binary_search_steps=1, max_iterations=attack.steps,
        )  # fmt: skip
        hit = _fools(lambda x: rounding(x) + handicap, found, y, attack.targeted)
        spent = (_as_bytes(found) - x).flatten(1).norm(dim=1)
        better = hit & (spent < least)
        best[better], least[better] = found[better], spent[better]
        low, high = torch.where(hit, low, weight), torch.where(hit, weight, high)
        weight = torch.where(high.isfinite(), (low + high) / 2, weight * 10)
    return best


def _spsa(classifier: Classifier, batch: Batch, attack: Attack) -> Tensor:
    """Uesato et al. 2018: Adam along differences of the margin between random points around the image."""
    images = zip(batch.x.split(1), batch.y.split(1), batch.seeds, strict=True)
    return torch.cat([_spsa_of(classifier, x, y, seed, attack) for x, y, seed in images])


def _spsa_of(classifier: Classifier, x: Tensor, y: Tensor, seed: int, attack: Attack) -> Tensor:
    def loss(change: Tensor) -> Tensor:
        # High while the class is unlikely.
        margin = _margin_logit_loss(classifier(x + change), y.expand(len(change)))
        return margin if attack.targeted else -margin

    with _seeded(seed, x.device), torch.no_grad():
        change = (torch.rand_like(x) * 2 - 1) * attack.radius
        _project_perturbation(change, np.inf, attack.radius, x, 0, 1)
        optimizer = torch.optim.Adam([change], attack.lr / 255)
        for _ in range(attack.steps):
            change.grad = _compute_spsa_gradient(loss, change, attack.delta / 255, attack.samples, 1)
            optimizer.step()
            _project_perturbation(change, np.inf, attack.radius, x, 0, 1)
    return x + change


def _hop_skip_jump(classifier: Classifier, batch: Batch, attack: Attack) -> Tensor:
    """Chen et al. 2020, L2: along the boundary of the decision, from an image of another class.

    An image stays unchanged if it fools the classifier already, or if there is no reference image of a
    suitable class to start from; another test image would bring its pixels into folds that do not know it.
    The result lies on the boundary, where rounding decides by chance: it is pushed on until its bytes are
    across.
    """
    found, missing = batch.x.clone(), 0
    # Bisection ends at a distance that float32 can resolve.
    gamma = max(1.0, 2.0**-22 * batch.x[0].numel() ** 1.5)
    classes = range(classifier(batch.x[:1]).shape[1])
    for i, (seed, y) in enumerate(zip(batch.seeds, batch.y.split(1), strict=True)):
        image = batch.x[i : i + 1]
        fools = partial(_fools, classifier, y=y, targeted=attack.targeted)
        if fools(image):
            continue
        suitable = (batch.start(c) for c in classes if (c == y.item()) == attack.targeted)
        start = next((found for found in suitable if found is not None), None)
        if start is None or not fools(other := _pixels(start[None], image.device)):
            missing += 1
            continue
        with _seeded(seed, image.device), torch.no_grad():
            found[i] = hop_skip_jump_attack(
                classifier, image, 2, y_target=y if attack.targeted else None, image_target=other[None],
                initial_num_evals=attack.samples, num_iterations=attack.steps, gamma=gamma, verbose=False,
            )[0]  # fmt: skip
    if missing:
        logger.warning(
            "%s: %d images have no reference image to start from and stay as they are", attack.name, missing
        )
    return _across(classifier, batch, found, attack)


def _across(classifier: Classifier, batch: Batch, found: Tensor, attack: Attack) -> Tensor:
    """The first point on the way out through `found` whose bytes fool the classifier, otherwise `found`."""
    best = found.clone()
    left = torch.ones(len(found), dtype=torch.bool, device=found.device)
    for reach in (1, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2):
        pushed = torch.lerp(batch.x, found, reach).clamp(0, 1)
        hit = left & _fools(classifier, _as_bytes(pushed), batch.y, attack.targeted)
        best[hit] = pushed[hit]
        left &= ~hit
    return best


def _noise(classifier: Classifier, batch: Batch, attack: Attack) -> Tensor:
    """Uniform in [-eps, eps], image by image because CleverHans draws from torch's global generator."""
    noisy = []
    # On the CPU, whose generator gives the same draws on every machine.
    for image, seed in zip(batch.x.cpu(), batch.seeds, strict=True):
        with _seeded(seed, image.device):
            noisy.append(noise(image, attack.radius, np.inf, 0, 1))
    return torch.stack(noisy).to(batch.x.device)


# A new method is one function and one line here, and its options one entry of the schema.
METHODS: dict[str, Callable[[Classifier, Batch, Attack], Tensor]] = {
    "fgsm": _fgsm,
    "iterative": _pgd,
    "noise": _noise,
    "pgd": _pgd,
    "mifgsm": _mifgsm,
    "carlini_wagner": _carlini_wagner,
    "spsa": _spsa,
    "hop_skip_jump": _hop_skip_jump,
    "sparse_l1": _sparse_l1,
}


# Methods that start from reference images: their jobs are told of the dataset.
FROM_REFERENCE = ("hop_skip_jump",)


def _with_gradient(model: Model, change: Callable[[Tensor], Tensor]) -> Model:
    """The same logits; `change` is applied to the gradient of the images."""

    def forward(x: Tensor) -> Tensor:
        x = x.view_as(x)
        if x.requires_grad:
            x.register_hook(change)
        return model(x)

    return forward


def _unit(gradient: Tensor) -> Tensor:
    """Each image's gradient over its largest value: CleverHans treats a norm below 1e-6 as zero."""
    size = gradient.abs().amax((1, 2, 3), keepdim=True)
    return torch.where(size == 0, 0, gradient / size)


def _pixels(images: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).float().div(255)


def _as_bytes(x: Tensor) -> Tensor:
    """The pixels, rounded as they are stored; the gradient ignores the rounding."""
    return x - x.detach() + x.detach().mul(255).round().div(255)


@torch.no_grad()
def _fools(model: Model, x: Tensor, y: Tensor, targeted: bool) -> Tensor:
    return (model(x).argmax(1) == y) == targeted


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, of the CPU and of `device`, and restore them at the end."""
    # Not `torch.manual_seed`, which seeds every GPU of the machine.
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for generator in generators:
            generator.manual_seed(seed)
        yield


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
    start: Start = lambda c: None,
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

    Returns
    -------
    uint8 [b, 3, H, W]
        Rounded; the change of each image is at most `attack.eps` in `attack.norm`. If rounding alone exceeds
        a budget in L1 or L2, the image is moved back towards the original by hundredths until it is within.

    Raises
    ------
    RuntimeError
        If the attack leaves its budget, or the network gives what is not finite.
    """
    if attack.eps == 0:
        return images.copy()
    device = classifier.mean.device
    x = _pixels(images, device)
    batch = Batch(x, torch.from_numpy(y).to(device), seeds, start)
    with _finite(classifier, attack.name):
        found = METHODS[attack.method](classifier, batch, attack).detach()
    if not found.isfinite().all():
        raise RunError(BROKEN.format(attack.name))
    eps = np.inf if attack.eps is None else attack.eps
    original = x.mul(255).round()
    within = _size(found * 255 - original, attack) <= eps + _size(torch.full_like(x[:1], SLACK), attack)
    while (over := within & (_size(found.mul(255).round() - original, attack) > eps)).any():
        found[over] = torch.lerp(x[over], found[over], 0.99)
    spent = _size(found.mul(255).round() - original, attack).amax().item()
    # Not `spent > eps`, which is False for what is not a number.
    if not spent <= eps:
        raise RunError(
            f"attack {attack.name!r}: changed an image by {spent:g} in {attack.norm}, its eps is {attack.eps}"
        )
    return found.mul(255).round().to(torch.uint8).cpu().numpy()


def _size(change: Tensor, attack: Attack) -> Tensor:
    """Norm of each image's change, float64 [b]; whole numbers add up exactly."""
    return torch.linalg.vector_norm(change.double().flatten(1), NORMS[attack.norm], dim=1)


def start_of(classifier: Classifier, dataset: Known, name: str, c: int) -> np.ndarray | None:
    """The first of a class's first reference images that is classified as it, uint8 [3, H, W]; None: none."""
    images = dataset.reference_images([c])
    for i in range(min(TRIED, len(images.names))):
        match images.images[i]:
            # What cannot be decoded is left out of the reference, too.
            case str():
                continue
            case (image, _) if _predicted(classifier, image.numpy()[None], name) == c:
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
    if attack.method in FROM_REFERENCE and dataset is None:
        raise InputError(
            f"attack {attack.name!r}: {attack.method} starts from the reference, and needs a dataset"
        )
    found = cache(partial(start_of, net, dataset, attack.name)) if dataset else lambda c: None
    label, source, keys = (original[name][:] for name in ("label", "source", "key"))
    target = original["target"][:]
    if attack.target == "random":
        target = targets(label, len(original.attrs["classes"]), seed, f"target of {attack.name}", keys)
    n = len(label)

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        starts = range(0, n, batch_size)
        for start in progress(starts, len(starts), f"{attack.name}: batches of {batch_size}"):
            rows = slice(start, start + batch_size)
            seeds = [int(draw(seed, f"draws of {attack.name}", i).integers(2**63)) for i in keys[rows]]
            y, aimed = label[rows], np.full_like(label[rows], NO_TARGET)
            if attack.targeted:
                y = aimed = target[rows]
            try:
                perturbed = adversarial(net, original["images"][rows], y, attack, seeds, found)
                predicted = _predicted(net, perturbed, attack.name)
            except RuntimeError as error:
                where = f"{images}, sources {source[rows][0]} to {source[rows][-1]}"
                raise RunError(f"{where}: {error}") from error
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


@torch.inference_mode()
def _predicted(classifier: Classifier, images: np.ndarray, name: str) -> np.ndarray:
    logits = classifier(_pixels(images, classifier.mean.device))
    if not logits.isfinite().all():
        raise RunError(BROKEN.format(name))
    return logits.argmax(1).cpu().numpy()
