"""Classifiers: networks of this project and of torchvision, their weights, and the layers to look at."""

import hashlib
import json
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from detour import checkpoints, devices, states
from detour.artefacts import written
from detour.datasets import Known, Labelled
from detour.errors import InputError, RunError
from detour.images import collated
from detour.networks import NETWORKS
from detour.options.classifier import Training, is_file
from detour.outputs import OutputError, channels
from detour.spelling import listed, unknown
from detour.store import Made
from detour.weights import WEIGHTS, Weights

logger = logging.getLogger(__name__)


# What a network computes in, where that is not float32 or its variant on tensor cores.
REDUCED = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# Gradients of a mean over a batch are less than float16 can tell from 0; attacks look at their signs.
LOSS_SCALE = 2.0**12

# Batches that the statistics of batch norm are estimated on after training.
SETTLING = 200

# Images of the pass that tells what can be told before any job: no other axis of an output is likely as long.
BATCH = 3

# Stored beside the activations of layers, under these names.
TAKEN = ("logits", "predicted", "label", "joint")


class Classifier(nn.Module):
    """A network that takes pixels in [0, 1] and normalises them itself.

    Parameters
    ----------
    network
        Takes normalised pixels, returns logits.
    mean, std
        Of the normalisation, per channel.

    Attributes
    ----------
    dtype
        What the network computes in.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = network
        self.dtype = torch.float32
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float32 [b, C], of pixels in [0, 1], float32 [b, 3, H, W]."""
        logits = self.network(((x - self.mean) / self.std).to(self.dtype))
        # Inception returns its auxiliary logits beside them while it trains.
        logits = getattr(logits, "logits", logits).float()
        if self.dtype is torch.float16 and logits.requires_grad:
            logits.register_hook(lambda gradient: gradient * LOSS_SCALE)
        return logits

    def layer(self, name: str) -> nn.Module:
        """The module of that name in the network."""
        return self.network.get_submodule(name)


def device_of(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means here; where there are several GPUs, one of its own.

    Raises
    ------
    ValueError
        If CUDA is asked for and torch sees none.
    """
    if name != "cpu":
        devices.claim()
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("device: found 'cuda', and torch sees no GPU here; use 'auto' or 'cpu'")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def untrained(model: str, classes: int, seed: int) -> nn.Module:
    """A network with random weights."""
    torch.manual_seed(seed)
    return _network(model, classes)


def pretrained(model: str, weights: str, classes: int) -> nn.Module:
    """A network with weights from elsewhere.

    Parameters
    ----------
    model
        Its name, here or in torchvision.
    weights
        The name of weights of this project or of a weight enum of torchvision, or the path of a checkpoint.
    classes
        Number of classes of the reference images.

    Raises
    ------
    ValueError
        If the weights are for another network or another number of classes.
    """
    packaged = WEIGHTS.get(model, {}).get(weights)
    if packaged:
        _same_classes(weights, packaged.classes, classes)
        network = _network(model, classes)
        _load_state(network, _unpacked(packaged))
        return network
    network = _network(model, classes)
    if model not in NETWORKS:
        from detour import vision

        own = vision.weights(model, weights)
        if own:
            _same_classes(weights, len(own.meta["categories"]), classes)
            weights = str(_checked(Path(weights) if Path(weights).is_file() else vision.fetched(own)))
    checkpoints.fill(
        network,
        checkpoints.read(weights),
        where=f"classifier.weights: {weights}",
        what=f"{model} with {classes} classes, one per folder of the reference",
    )
    return network


def _same_classes(weights: str, outputs: int, classes: int) -> None:
    if outputs != classes:
        raise InputError(
            f"classifier.weights: {weights} has {outputs} classes, the reference images {classes};"
            " use reference images of the classes that the network was trained on"
        )


def _unpacked(packaged: Weights) -> dict[str, Tensor]:
    """The tensors of weights of this project, whose file is whole."""
    found = sha256(packaged.path)
    if found != packaged.sha256:
        raise InputError(
            f"{packaged.path}: found a file with SHA-256 {found[:8]}..., expected {packaged.sha256[:8]}...;"
            " it is not whole or another: restore it from the repository"
        )
    return load_file(packaged.path)


def _checked(path: Path) -> Path:
    """Refuse a file of torchvision whose SHA-256 does not begin as its name says."""
    expected = re.search(r"-([0-9a-f]{8,})\.", path.name)
    found = sha256(path)
    if expected and not found.startswith(expected[1]):
        raise InputError(
            f"{path}: found a file with SHA-256 {found[:8]}..., expected {expected[1]}... as its name says;"
            " it is not whole or another: fetch it again"
        )
    return path


def sha256(path: Path) -> str:
    """Of the bytes of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _network(model: str, classes: int) -> nn.Module:
    if model in NETWORKS:
        return NETWORKS[model](classes)
    # Not above: torchvision takes longer to import than torch, and the project's networks do without.
    from detour import vision

    return vision.network(model, classes)


def _load_state(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load strictly but for the auxiliary heads, which only training uses."""
    keys = network.load_state_dict(state, strict=False)
    wrong = [k for k in (*keys.missing_keys, *keys.unexpected_keys) if "aux" not in k.lower()]
    if wrong:
        raise RunError(f"missing or unexpected: {', '.join(wrong[:5])} ({len(wrong)} in all)")


def _refuse_infinite(network: nn.Module, weights: str) -> None:
    for name, tensor in network.state_dict().items():
        wrong = int((~tensor.isfinite()).sum())
        if wrong:
            remedy = "use a lower classifier.training.lr" if weights == "train" else "use another checkpoint"
            raise InputError(
                f"classifier.weights: {weights}: {name} has {wrong} values of {tensor.numel()} that are NaN"
                f" or infinite, expected none; {remedy}"
            )
        # Batch norm adds eps to it, takes the root and divides.
        if name.endswith("running_var") and (low := float(tensor.min())) < 0:
            raise InputError(
                f"classifier.weights: {weights}: {name} has a variance of {low:.6g}, expected none below 0;"
                " use another checkpoint: this one is damaged or not of this network"
            )


def train(
    classifier: Classifier,
    images: Labelled,
    training: Training,
    seed: int,
    device: torch.device,
) -> None:
    """Train in place with Adam, a one-cycle schedule and cross-entropy.

    Parameters
    ----------
    images
        What to learn.
    seed
        Of the order of the images.
    """
    torch.manual_seed(seed)
    classifier.train().to(device)
    n = len(images.label)
    # No batch of one, of which batch norm knows no variance.
    batches = DataLoader(
        images.images, min(n, training.batch_size), shuffle=True, drop_last=True, collate_fn=collated
    )
    skipped: set[str] = set()
    optimizer = torch.optim.Adam(classifier.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.lr, epochs=training.epochs, steps_per_epoch=len(batches)
    )
    begin = time.monotonic()
    for epoch in range(1, training.epochs + 1):
        right = seen = 0
        for batch, problems, _ in batches:
            skipped.update(problems)
            if batch is None or len(batch[1]) < 2:
                continue
            x, y = batch
            x, y = x.to(device).float().div(255), y.to(device)
            logits = classifier(x)
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(logits, y).backward()
            optimizer.step()
            schedule.step()
            right += int((logits.argmax(1) == y).sum())
            seen += len(y)
        if not seen:
            raise InputError(f"training images: found none that can be decoded; the first: {min(skipped)}")
        if skipped and epoch == 1:
            logger.warning(
                "training: left out %d of %d images that cannot be decoded: %s",
                len(skipped), n, listed(sorted(skipped)),
            )  # fmt: skip
        spent = time.monotonic() - begin
        logger.info(
            "epoch %d of %d: %.1f %% of the training images right, %.0f s left",
            epoch, training.epochs, 100 * right / seen, spent / epoch * (training.epochs - epoch),
        )  # fmt: skip


def settle(classifier: Classifier, images: Labelled, training: Training, seed: int) -> None:
    """Estimate the statistics of batch norm anew, in place, with the weights as they are after training.

    While it trains, they are moving averages over steps, which after few steps still hold much of where they
    began. Here they are means over up to `SETTLING` batches, drawn by the seed.
    """
    torch.manual_seed(seed)
    device = classifier.mean.device
    n = min(len(images.label), training.batch_size)
    batches = DataLoader(images.images, n, shuffle=True, drop_last=True, collate_fn=collated)
    decoded = (batch[0] for batch, _, _ in islice(batches, SETTLING) if batch)
    update_bn((x.to(device).float().div(255) for x in decoded), classifier)


def prepare(
    out: str | Path, *, model: str, weights: str, mean: list[float], std: list[float], classes: int,
    made: Made, transform_input: bool | None = None, training: Training | None = None,
    dataset: Known | None = None, device: str = "cpu", seed: int = 0,
) -> None:  # fmt: skip
    """Train or fetch the classifier of a run and store it with what is needed to build it again.

    Parameters
    ----------
    weights
        `train`, `untrained`, the name of weights or of a weight enum, or the path of a checkpoint.
    classes
        Number of classes of the reference images.
    transform_input
        See `transforms_input`.
    training, dataset, device
        Where `weights` is `train`: how, on whose reference images and where.
    seed
        Of the first weights and the order of the images.
    """
    used = device_of(device)
    transform = transforms_input(model, weights, transform_input)
    with written(out) as part:
        if training or weights == "untrained":
            network = untrained(model, classes, seed)
        else:
            network = pretrained(model, weights, classes)
        if transform is not None:
            setattr(network, "transform_input", transform)  # noqa: B010
        classifier = Classifier(network, mean, std)
        if training and dataset:
            images = dataset.reference_images()
            train(classifier, images, training, seed, used)
            settle(classifier, images, training, seed)
        _refuse_infinite(network, weights)
        # Not all of what makes the network is part of its state.
        build = {"model": model, "classes": classes, "transform_input": transform}
        sources = [weights] if Path(weights).is_file() else []
        saved = {"state": classifier.cpu().state_dict(), **build}
        states.save(part, out, saved, made, sources, device=str(used))


def load(
    path: str | Path, device: torch.device, precision: str = "float32", keep: Sequence[str] = ()
) -> Classifier:
    """The classifier of a run, frozen, in evaluation mode and made fast.

    Parameters
    ----------
    precision
        `float32`, `tf32` (the same, products on a GPU's tensor cores in 19 bits), `bfloat16`, `float16`.
    keep
        Layers whose outputs are wanted.
    """
    saved = states.load(path)
    network = _network(saved["model"], saved["classes"])
    if saved["transform_input"] is not None:
        network.transform_input = saved["transform_input"]
    classifier = Classifier(network, [0.0] * 3, [1.0] * 3)
    _load_state(classifier, saved["state"])
    # Without this every step of an attack accumulates the gradients of the weights as well.
    classifier.requires_grad_(False).eval()
    fold(network, keep)
    classifier.dtype = REDUCED.get(precision, torch.float32)
    network.to(classifier.dtype)
    # Convolutions of PyTorch are in TF32 unless told otherwise.
    products = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = products
    torch.backends.cudnn.conv.fp32_precision = products  # type: ignore[attr-defined]
    return classifier.to(device).to(memory_format=torch.channels_last)


def fold(network: nn.Module, keep: Sequence[str] = ()) -> int:
    """Fold every batch norm that only a convolution feeds into that convolution, in place.

    In evaluation it is an affine function per channel, so that the outputs differ by rounding alone.

    Parameters
    ----------
    network
        In evaluation mode.
    keep
        Modules that stay as they are.

    Returns
    -------
    int
        How many were folded.
    """
    nodes = [node for node in fx.symbolic_trace(network).graph.nodes if node.op == "call_module"]
    calls = Counter(node.target for node in nodes)
    folded = 0
    for node in nodes:
        before = node.args[0]
        if (
            isinstance(norm := network.get_submodule(node.target), nn.BatchNorm2d)
            and before.op == "call_module"
            and isinstance(convolution := network.get_submodule(before.target), nn.Conv2d)
            and len(before.users) == calls[before.target] == calls[node.target] == 1
            and not {before.target, node.target} & set(keep)
        ):
            network.set_submodule(before.target, fuse_conv_bn_eval(convolution, norm))
            network.set_submodule(node.target, nn.Identity())
            folded += 1
    return folded


@dataclass(frozen=True)
class Question:
    """What is asked about a network before any job starts.

    Parameters
    ----------
    model, weights, layers, transform_input
        As in the configuration.
    classes
        Number of classes of the reference images.
    size
        Side of the images in pixels.
    key
        What the configuration calls the size.
    content
        Digest of the file of weights, if there is one: another may not fit.
    """

    model: str
    weights: str
    layers: str | list[str]
    transform_input: bool | None
    classes: int
    size: int
    key: str
    content: str = ""


def look(question: Question) -> list[str]:
    """Names of the layers to compare, after one pass of one batch without weights has shown that all fits.

    Weights in a file are read, too.

    Raises
    ------
    ValueError
        If there is no such model, or it has no such weights or layers, if it does not take images of that
        size or does not give a logit for each class, or if a layer puts out what cannot be compared.
    """
    model, size, classes = question.model, question.size, question.classes
    names = layers(model, question.layers)
    check_weights(model, question.weights, classes)
    transforms_input(model, question.weights, question.transform_input)
    for name in names:
        if name in TAKEN:
            raise InputError(
                f"classifier.layers: found {name!r}, a name that the workflow needs; name a module around it"
                " or within it"
            )
    problem: Exception
    # Without data first; where a network cannot be made or run so, with data.
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                classifier = Classifier(untrained(model, classes, seed=0), [0.0] * 3, [1.0] * 3).eval()
                x = torch.zeros(BATCH, 3, size, size)
            logits = classifier(x)
            if question.weights == "train":
                classifier.train()(x)
            channels(classifier.eval(), {name: classifier.layer(name) for name in names}, x)
            break
        except OutputError:
            raise
        except Exception as error:
            problem = error
    else:
        said = next(iter(str(problem).splitlines()), type(problem).__name__)
        raise InputError(
            f"{question.key}: found {size}, and {model} takes no images of {size} x {size} pixels ({said});"
            " use the size that it was made for"
        )
    if logits.shape != (BATCH, classes):
        raise InputError(
            f"classifier.model: {model} gives logits {list(logits.shape)} for {BATCH} images of {classes}"
            f" classes, expected [{BATCH}, {classes}]; choose another"
        )
    if is_file(question.weights):
        _refuse_infinite(pretrained(model, question.weights, classes), question.weights)
    return names


def layers(model: str, names: str | list[str]) -> list[str]:
    """Names of the layers to compare, in the order of the data.

    Parameters
    ----------
    names
        Names of modules, or `auto`: the stem and every block.

    Raises
    ------
    ValueError
        If there is no such model or the model has no such layer, with the nearest names.
    """
    network: nn.Module
    if model in NETWORKS:
        with torch.device("meta"):
            network = own = NETWORKS[model](2)
        auto = own.layers()
    else:
        from detour import vision

        available = vision.names()
        if model not in available:
            raise InputError(unknown("classifier.model", model, [*NETWORKS, *available]))
        try:
            with torch.device("meta"):
                network = _network(model, classes=2)
        except NotImplementedError:
            # RegNets look at their first weights.
            network = _network(model, classes=2)
        auto = vision.blocks(model, network) if isinstance(names, str) else []
    if isinstance(names, str):
        return auto
    known = [name for name, _ in network.named_modules() if name]
    for name in names:
        if name not in known:
            raise InputError(unknown("classifier.layers", name, known))
    return names


def check_weights(model: str, weights: str, classes: int) -> None:
    """Refuse the name of weights that the model does not have, or has for another number of classes."""
    if is_file(weights) or weights in ("train", "untrained"):
        return
    own = {name: packaged.classes for name, packaged in WEIGHTS.get(model, {}).items()}
    if model not in NETWORKS:
        from detour import vision

        own = vision.class_counts(model)
    if weights not in own:
        raise InputError(unknown("classifier.weights", weights, own))
    _same_classes(weights, own[weights], classes)


def transforms_input(model: str, weights: str, stated: bool | None = None) -> bool | None:
    """Whether an Inception or a GoogLeNet transforms its input; None of other networks, which cannot.

    They turn pixels normalised as ImageNet's into those of their first training, or leave them as they are.
    torchvision's own weights need the first. It is no part of a state dict, so that for a file it is stated.

    Parameters
    ----------
    stated
        None: true for torchvision's own weights, false for `train` and `untrained`.

    Raises
    ------
    ValueError
        If it is stated and the network cannot, or has to be and is not.
    """
    if model not in ("inception_v3", "googlenet"):
        if stated is not None:
            raise InputError(
                f"classifier.transform_input: found {stated}, and {model} has no such switch; leave it out"
            )
        return None
    if stated is not None:
        return stated
    if weights in ("train", "untrained"):
        return False
    from detour import vision

    if vision.weights(model, weights):
        return True
    raise InputError(
        f"classifier.transform_input: found none, and a state dict does not say whether its {model}"
        " transforms its input: set true if it was fine-tuned from torchvision's own weights as they are"
        " loaded, false if it was trained with `transform_input=False`"
    )


def main() -> None:
    """Answer a `Question` of standard input; asked by `detour.config.layers`, which must not import torch."""
    question = Question(**json.load(sys.stdin))
    try:
        answer = {"layers": look(question)}
    except ValueError as error:
        answer = {"problems": str(error).splitlines()}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
