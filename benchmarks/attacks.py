"""Attacks: iterated FGSM towards a target, eps 16/255, steps of 1/255, without a random start.

ResNet-18 at 64 x 64 with 20 steps and InceptionV3 at 299 x 299, on random images; weights are seeded and
random, batch norm has the images' statistics. On a CPU InceptionV3 takes few images and few steps: what is
compared is the cost of a step, which is the same in each. CleverHans is called plainly, as its tutorial does,
and, like the other peers, with the network that suits it best: frozen weights, channels last. The bare loop
is forward pass, cross-entropy, gradient of the pixels, sign and clipping, on that same network. Every
candidate is asserted to stay within the budget; every peer to take each image through the network at every
step (ART does so once more, to see whether it succeeded); and what computes in float32 to lower the target's
loss as far as the bare loop does.
"""

import copy
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from torch import Tensor, nn
from torchvision.models import get_model

from benchmarks import timing
from benchmarks.sections import Table
from detour import classifiers
from detour.attacks import adversarial
from detour.classifiers import Classifier
from detour.options.attacks.gradients import Iterative
from detour.store import Made

GOAL = (
    "Ahead of every peer in the same precision and within 1.05 of the bare loop in float32, channels last;"
    " then below the bare loop itself."
)

NOTES = [
    "Folding batch norm into the convolutions is what brings Detour below the bare loop; given a frozen network in"
    " channels last, CleverHans, foolbox and ART come near the loop too, which their own documentation does not say.",
    "bfloat16 gains nothing on a CPU without AMX: there oneDNN multiplies in AVX-512 (ONEDNN_VERBOSE shows"
    " brg_conv:avx512_core_bf16), and what is not a product is converted to and fro. Detour's own bfloat16, of the"
    " whole network, costs less than autocast.",
    "torch.compile (Inductor) does not beat eager mode on the CPU either; InceptionV3 took it two minutes to"
    " compile on two busy cores. It is not used. On a GPU, with graph capture, it has not been measured.",
]

EPS = 16
BARE = "bare loop, float32"
COMPILED = "bare loop, float32, torch.compile"
CLASSES = 1_000
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

Found = TypeVar("Found")

# Precisions that a CPU has no fast arithmetic for.
CUDA_ONLY = ("tf32", "float16")
AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# A float32 candidate may miss the bare loop's loss of the target by this share of what the loop gains: signs
# of gradients that are nearly zero differ with the order of sums, which tells most after few steps.
SLACK = 0.2


def run(quick: bool) -> list[Table]:
    cuda = torch.cuda.is_available()
    # Triton compiles with it.
    compiled = cuda and any(map(shutil.which, ("gcc", "clang", "cc")))
    if quick:
        return [measured("resnet18", size=64, n=2, steps=2, rounds=1, compiled=False)]
    return [
        measured(
            "resnet18", size=64, n=1024 if cuda else 64, steps=20, rounds=2, compiled=compiled or not cuda
        ),
        # Inductor takes minutes to compile it for a CPU.
        measured(
            "inception_v3",
            size=299,
            n=128 if cuda else 4,
            steps=20 if cuda else 4,
            rounds=2,
            compiled=compiled,
        ),
    ]


def measured(model: str, *, size: int, n: int, steps: int, rounds: int, compiled: bool = True) -> Table:
    """All candidates on one network."""
    device = classifiers.device_of("auto")
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(n, 3, size, size), dtype=np.uint8)
    target = rng.integers(CLASSES, size=n)
    x = torch.from_numpy(images).to(device).float().div(255)
    y = torch.from_numpy(target).to(device)
    network = seeded(model, x.cpu())
    plain = Classifier(network, MEAN, STD).eval().to(device)
    frozen = copy.deepcopy(plain).requires_grad_(False).to(memory_format=torch.channels_last)
    attack = Iterative(name="a", method="iterative", eps=EPS, target="dataset", steps=steps, step=1)

    candidates: dict[str, Callable[[], Tensor]] = {BARE: partial(bare, frozen, x, y, steps)}
    missing: dict[str, str] = {}
    for precision in ("float32", "bfloat16", *CUDA_ONLY):
        if precision in CUDA_ONLY and device.type != "cuda":
            missing |= {f"bare loop, {precision}": "not measured", f"Detour, {precision}": "not measured"}
            continue
        ours = loaded(model, network, device, precision)
        candidates[f"Detour, {precision}"] = partial(detour, ours, images, target, attack)
        if precision != "float32":
            run = partial(bare, frozen, x, y, steps, dtype=AUTOCAST.get(precision))
            candidates[f"bare loop, {precision}"] = run
    if compiled:
        torch._dynamo.reset()
        # A copy, without the hook that counts: it would be compiled too.
        candidates[COMPILED] = partial(bare, torch.compile(copy.deepcopy(frozen)), x, y, steps)
    else:
        missing[COMPILED] = "not measured"
    candidates["CleverHans, plainly"] = partial(cleverhans, plain, x, y, steps)
    candidates["CleverHans"] = partial(cleverhans, frozen, x, y, steps)
    for name, (package, call) in PEERS.items():
        if find_spec(package):
            candidates[name] = partial(call, frozen, x, y, steps)
        else:
            missing[name] = "not installed"

    seen: list[int] = []
    for net in (plain, frozen):
        net.register_forward_hook(lambda net, inputs, logits: seen.append(len(logits)))
    timings = timing.side_by_side(
        {name: partial(counted, seen, call, "tf32" in name) for name, call in candidates.items()},
        BARE,
        rounds,
    )
    rows, reached = [], {}
    before = loss_of(plain, x, y)[0]
    gain = before - loss_of(plain, timings[BARE].output[0], y)[0]
    for name, found in timings.items():
        attacked, passed = found.output
        attacked = attacked.to(device)
        spent = (attacked - x).abs().max().item() * 255
        if spent > EPS + 0.01:
            raise AssertionError(f"{name}: moved a pixel by {spent:.3f}, the budget is {EPS}")
        if passed < n * steps and not name.startswith(("Detour", COMPILED)):
            raise AssertionError(f"{name}: {passed} images through the network, expected {n} x {steps}")
        loss, hit = loss_of(plain, attacked, y)
        reached[name] = hit
        reduced = any(precision in name for precision in ("bfloat16", *CUDA_ONLY))
        if not reduced and abs(before - loss - gain) > SLACK * gain:
            raise AssertionError(f"{name}: lowered the loss by {before - loss}, the bare loop by {gain}")
        rows.append(timing.row(name, found, n * steps, "image steps") | {
            "loss": loss,
            "hits": hit.mean(),
            "hits that differ": (hit != reached[BARE]).mean(),
            "first call": found.first,
        })  # fmt: skip
    rows += [{"candidate": name, "seconds": why} for name, why in missing.items()]
    return Table(
        f"{model}, {n} images of {size} x {size}, {steps} steps",
        rows,
        note=f"The target's mean cross-entropy is {before:.3g} before the attack; losses, and hits of the"
        " target, are those of the network in float32 on what the candidate returned.",
    )


def bare(network: nn.Module, x: Tensor, y: Tensor, steps: int, dtype: torch.dtype | None = None) -> Tensor:
    """Nothing but forward passes and gradients of the pixels."""
    low, high = (x - EPS / 255).clamp(0, 1), (x + EPS / 255).clamp(0, 1)
    found = x
    for _ in range(steps):
        found = found.detach().requires_grad_()
        with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
            logits = network(found)
        loss = nn.functional.cross_entropy(logits.float(), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, found)
        found = torch.clamp(found.detach() - gradient.sign() / 255, low, high)
    return found


def detour(classifier: Classifier, images: np.ndarray, target: np.ndarray, attack: Iterative) -> Tensor:
    perturbed = adversarial(classifier, images, target, attack, [0] * len(images))
    return torch.from_numpy(perturbed).float().div(255)


def cleverhans(network: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    return projected_gradient_descent(
        network, x, EPS / 255, 1 / 255, steps, np.inf, 0, 1,
        y=y, targeted=True, rand_init=False, sanity_checks=False,
    ).detach()  # fmt: skip


def torchattacks(network: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    from torchattacks import BIM

    attack = BIM(network, EPS / 255, 1 / 255, steps)
    attack.set_mode_targeted_by_label(quiet=True)
    return attack(x, y)


def foolbox(network: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfBasicIterativeAttack
    from foolbox.criteria import TargetedMisclassification

    attack = LinfBasicIterativeAttack(abs_stepsize=1 / 255, steps=steps, random_start=False)
    model = PyTorchModel(network, bounds=(0, 1), device=x.device)
    # Its `run`: a call of the attack itself evaluates the images once more.
    return attack.run(model, x, TargetedMisclassification(y), epsilon=EPS / 255)


def art(network: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    from art.attacks.evasion import BasicIterativeMethod
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        network, nn.CrossEntropyLoss(), tuple(x.shape[1:]), CLASSES, clip_values=(0, 1), device_type=x.device
    )
    attack = BasicIterativeMethod(
        classifier, EPS / 255, 1 / 255, steps, targeted=True, batch_size=len(x), verbose=False
    )
    return torch.from_numpy(attack.generate(x.cpu().numpy(), y.cpu().numpy()))


PEERS: dict[str, tuple[str, Callable[[nn.Module, Tensor, Tensor, int], Tensor]]] = {
    "torchattacks": ("torchattacks", torchattacks),
    "foolbox": ("foolbox", foolbox),
    "ART": ("art", art),
}


def seeded(model: str, x: Tensor) -> nn.Module:
    """A network with random weights, whose batch norm has the statistics of the images.

    Without them its activations shrink from layer to layer and no attack moves its logits.
    """
    torch.manual_seed(0)
    drawn = {"init_weights": False} if model == "inception_v3" else {}
    network = get_model(model, weights=None, num_classes=CLASSES, **drawn)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        Classifier(network, MEAN, STD).train()(x[:64])
    return network.eval()


def loaded(model: str, network: nn.Module, device: torch.device, precision: str) -> Classifier:
    """The network as the workflow stores and loads it."""
    with tempfile.TemporaryDirectory() as folder:
        state, path = Path(folder) / "state.pt", Path(folder) / "classifier.pt"
        torch.save(network.state_dict(), state)
        classifiers.prepare(
            path, model=model, weights=str(state), mean=MEAN, std=STD, classes=CLASSES, made=Made({}, ""),
            transform_input=getattr(network, "transform_input", None),
        )  # fmt: skip
        return classifiers.load(path, device, precision=precision)


@torch.no_grad()
def loss_of(network: nn.Module, x: Tensor, y: Tensor) -> tuple[float, np.ndarray]:
    """Mean cross-entropy of the targets, and which images reach theirs."""
    logits = network(x)
    return nn.functional.cross_entropy(logits, y).item(), (logits.argmax(1) == y).cpu().numpy()


def counted(seen: list[int], call: Callable[[], Tensor], tf32: bool) -> tuple[Tensor, int]:
    """What the call returns, with TF32 allowed or not, and how many images went through the network."""
    seen.clear()
    return with_tf32(call, allowed=tf32), sum(seen)


def with_tf32(call: Callable[[], Found], *, allowed: bool) -> Found:
    """What the call returns. To be told before each: it holds for the process, and torch begins with it allowed."""
    products = "tf32" if allowed else "ieee"
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = products
    return call()
