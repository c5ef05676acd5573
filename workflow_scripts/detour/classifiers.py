"""Classifiers: networks of this project, of torchvision and from outside, their weights and their layers."""

import hashlib
import json
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from detour import blocks, checkpoints, devices, states
from detour.artefacts import written
from detour.blocks import Call
from detour.datasets import Known, Labelled
from detour.errors import InputError, RunError
from detour.images import collated
from detour.methods import is_reference, loaded
from detour.networks import NETWORKS
from detour.options.classifier import IN_PLACE, Training, is_file
from detour.outputs import channels
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
        Of the normalisation, per channel; of one, the network takes the mean of the three, which in images of
        grey are equal.
    outputs
        Those of the network that are the classes, in their order; None: all.

    Attributes
    ----------
    dtype
        What the network computes in.
    """

    mean: Tensor
    std: Tensor
    outputs: Tensor | None

    def __init__(
        self, network: nn.Module, mean: list[float], std: list[float], outputs: list[int] | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.dtype = torch.float32
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.register_buffer("outputs", None if outputs is None else torch.tensor(outputs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float32 [b, C], of pixels in [0, 1], float32 [b, 3, H, W]."""
        if len(self.mean) == 1:
            x = x.mean(1, keepdim=True)
        logits = self.network(((x - self.mean) / self.std).to(self.dtype))
        # Of transformers, and of Inception while it trains, whose auxiliary logits are beside them.
        logits = getattr(logits, "logits", logits)
        if self.outputs is not None:
            logits = logits.index_select(1, self.outputs)
        logits = logits.float()
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


def untrained(model: str, classes: int, seed: int, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A network with the weights that it is made with: random ones, unless a function loads others.

    Parameters
    ----------
    model
        Its name, here or in torchvision, or the reference of a function.
    classes
        Number of its outputs; a function is not told.
    options
        Arguments of a function.
    """
    torch.manual_seed(seed)
    return _network(model, classes, options)


def pretrained(
    model: str, weights: str, classes: int, seed: int = 0, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """A network with weights from elsewhere.

    Parameters
    ----------
    model
        Its name, here or in torchvision, or the reference of a function.
    weights
        The name of weights of this project or of a weight enum of torchvision, or the path of a checkpoint.
    classes
        Number of its outputs.
    seed, options
        See `untrained`; of a function, not all may be in the weights.

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
    network = untrained(model, classes, seed, options)
    if _in_torchvision(model):
        from detour import vision

        own = vision.weights(model, weights)
        if own:
            _same_classes(weights, len(own.meta["categories"]), classes)
            weights = str(_checked(Path(weights) if Path(weights).is_file() else vision.fetched(own)))
    checkpoints.fill(
        network,
        checkpoints.read(weights),
        where=f"classifier.weights: {weights}",
        what=_described(model, classes),
    )
    return network


def _begin(network: nn.Module, model: str, start: str, classes: int) -> None:
    """Fill in what a checkpoint has, to learn from there; it may be of other classes."""
    checkpoints.fill(
        network,
        checkpoints.read(start),
        where=f"classifier.training.start: {start}",
        what=_described(model, classes),
        other_classes=True,
    )


def _described(model: str, classes: int) -> str:
    if is_reference(model):
        return f"what {model} makes of classifier.options"
    return f"{model} with {classes} classes, one per folder of the reference"


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


def _in_torchvision(model: str) -> bool:
    return model not in NETWORKS and not is_reference(model)


def _network(model: str, classes: int, options: Mapping[str, Any] | None = None) -> nn.Module:
    if is_reference(model):
        return _called(model, options or {})
    if model in NETWORKS:
        return NETWORKS[model](classes)
    # Not above: torchvision takes longer to import than torch, and the project's networks do without.
    from detour import vision

    return vision.network(model, classes)


def _called(function: str, options: Mapping[str, Any]) -> nn.Module:
    """What a function from outside makes of its options, which has to be a network."""
    try:
        network = loaded(function)(**options)
    except InputError as error:
        raise InputError(f"classifier.model: {error}") from error
    # Whatever the code of others raises.
    except Exception as error:
        called = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise InputError(
            f"classifier.model: {function}({called}) raised {_short(error)}; correct classifier.options, or"
            " the function"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"classifier.model: {function} gives a {type(network).__name__}, expected a torch.nn.Module"
        )
    return network


def _short(error: Exception) -> str:
    said = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


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
    made: Made, options: Mapping[str, Any] | None = None, outputs: list[int | str] | None = None,
    transform_input: bool | None = None, training: Training | None = None, dataset: Known | None = None,
    device: str = "cpu", seed: int = 0,
) -> None:  # fmt: skip
    """Train or fetch the classifier of a run and store it with what is needed to build it again.

    Parameters
    ----------
    weights
        `train`, `untrained`, `already`, the name of weights or of a weight enum, or the path of a checkpoint.
    classes
        Number of classes of the reference images.
    options
        Of a `model` that is a function: its arguments.
    outputs
        Those of the network that are the classes, by name or number; None: all.
    transform_input
        See `transforms_input`.
    training, dataset, device
        Where `weights` is `train`: how, on whose reference images and where.
    seed
        Of the first weights and the order of the images.
    """
    used = device_of(device)
    transform = transforms_input(model, weights, transform_input)
    width = _width(model, weights, classes, outputs)
    with written(out) as part:
        if training or weights in IN_PLACE:
            network = untrained(model, width, seed, options)
            if training and training.start:
                _begin(network, model, training.start, width)
        else:
            network = pretrained(model, weights, width, seed, options)
        if transform is not None:
            setattr(network, "transform_input", transform)  # noqa: B010
        picked = None if outputs is None else _numbers(outputs, _categories(model, weights, network))
        classifier = Classifier(network, mean, std, picked)
        if training and dataset:
            images = dataset.reference_images()
            train(classifier, images, training, seed, used)
            settle(classifier, images, training, seed)
        _refuse_infinite(network, weights)
        # Not all of what makes the network is part of its state.
        build = {
            "model": model,
            "options": dict(options or {}),
            "classes": width,
            "outputs": picked,
            "transform_input": transform,
            "seed": seed,
        }
        file = training.start if training else weights
        sources = [file] if file and Path(file).is_file() else []
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
    return built(states.load(path), device, precision, keep)


def built(
    saved: dict[str, Any], device: torch.device, precision: str = "float32", keep: Sequence[str] = ()
) -> Classifier:
    """The classifier of what `prepare` saved: its state, and what makes the network; see `load`."""
    network = untrained(saved["model"], saved["classes"], saved["seed"], saved["options"])
    if saved["transform_input"] is not None:
        network.transform_input = saved["transform_input"]
    blank = [0.0] * len(saved["state"]["mean"])
    classifier = Classifier(network, blank, blank, saved["outputs"])
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

    In evaluation it is an affine function per channel, so that the outputs differ by rounding alone. A
    network that torch.fx cannot trace, as it decides by its input what it does, is left as it is.

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
    try:
        graph = fx.symbolic_trace(network).graph
    # Whatever the code of others raises when it is given no tensor.
    except Exception as error:
        logger.info("batch norms are not folded: torch.fx cannot trace the network (%s)", _short(error))
        return 0
    nodes = [node for node in graph.nodes if node.op == "call_module"]
    calls = Counter(node.target for node in nodes)
    # Modules whose weights are used beside their calls.
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    folded = 0
    for node in nodes:
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        first, second = str(before.target), str(node.target)
        norm, convolution = network.get_submodule(second), network.get_submodule(first)
        if (
            # These classes alone: another may also be an activation, or compute its weights.
            type(norm) is nn.BatchNorm2d
            and type(convolution) is nn.Conv2d
            and not convolution._forward_pre_hooks
            and len(before.users) == calls[first] == calls[second] == 1
            and not {first, second} & {*keep, *read}
            and not any(_within(first, name) and not _within(second, name) for name in keep)
        ):
            network.set_submodule(first, fuse_conv_bn_eval(convolution, norm))
            network.set_submodule(second, nn.Identity())
            folded += 1
    return folded


def _within(name: str, module: str) -> bool:
    return name.startswith(f"{module}.")


@dataclass(frozen=True)
class Question:
    """What is asked about a network before any job starts.

    Parameters
    ----------
    model, weights, layers, transform_input, options
        As in the configuration.
    classes
        Number of classes of the reference images.
    size
        Side of the images in pixels.
    key
        What the configuration calls the size.
    content
        Digest of the file of weights, if there is one: another may not fit.
    outputs
        `classes` of the configuration.
    channels
        That the network takes, 3 or 1.
    start
        `training.start` of the configuration.
    """

    model: str
    weights: str
    layers: str | list[str]
    transform_input: bool | None
    classes: int
    size: int
    key: str
    content: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    outputs: list[int | str] | None = None
    channels: int = 3
    start: str | None = None

    @property
    def batch(self) -> Tensor:
        """Without anything on them, float32 [BATCH, 3, size, size]."""
        return torch.zeros(BATCH, 3, self.size, self.size)


def look(question: Question) -> list[str]:
    """Names of the layers to compare, after one pass of one batch without weights has shown that all fits.

    Weights in a file, and those that a function has loaded, are read, too.

    Raises
    ------
    ValueError
        If there is no such model, or it has no such weights or layers, if it does not take images of that
        size or does not give a logit for each class, or if a layer puts out what cannot be compared.
    """
    check_model(question.model)
    check_weights(question.model, question.weights, question.classes, question.outputs is not None)
    transforms_input(question.model, question.weights, question.transform_input)
    network, names = _looked_at(question)[:2]
    for name in names:
        if name in TAKEN:
            raise InputError(
                f"classifier.layers: found {name!r}, a name that the workflow needs; name a module around it"
                " or within it"
            )
    weights = question.weights
    width = _width(question.model, weights, question.classes, question.outputs)
    if is_file(weights):
        network = pretrained(question.model, weights, width, options=question.options)
    if is_file(weights) or weights == "already":
        _refuse_infinite(network, weights)
    if question.start:
        _begin(untrained(question.model, width, 0, question.options), question.model, question.start, width)
    return names


def _looked_at(question: Question) -> tuple[nn.Module, list[str], Call]:
    """The network, its layers to compare, and the calls of a pass, without data if that works."""
    model, weights, size = question.model, question.weights, question.size
    width = _width(model, weights, question.classes, question.outputs)
    problem: Exception
    # What a function has loaded is to be seen.
    for device in ("cpu",) if weights == "already" else ("meta", "cpu"):
        try:
            with torch.device(device):
                network = untrained(model, width, 0, question.options)
                blank = [1.0] * question.channels
                classifier, x = Classifier(network, blank, blank).eval(), question.batch
                root, logits = blocks.passed(classifier, network, x)
                if weights == "train":
                    classifier.train()(x)
            break
        except Exception as error:
            problem = error
    else:
        if isinstance(problem, InputError):
            raise problem
        raise InputError(
            f"{question.key}: found {size}, and {model} takes no images of {size} x {size} pixels and"
            f" {question.channels} channels ({_short(problem)}); use the size that it was made for, and as"
            " many numbers in classifier.mean and std as it takes channels"
        )
    _check_logits(question, logits, network)
    names = blocks.layers(network, question.layers, root, BATCH)
    with torch.device(device):
        channels(classifier.eval(), {name: classifier.layer(name) for name in names}, x)
    return network, names, root


def _check_logits(question: Question, logits: Tensor, network: nn.Module) -> None:
    """Refuse a network that has no logit for each class, or not those that are picked."""
    model, classes, found = question.model, question.classes, list(logits.shape)
    if question.outputs is None:
        if found != [BATCH, classes]:
            raise InputError(
                f"classifier.model: {model} gives logits {found} for {BATCH} images of {classes} classes,"
                f" expected [{BATCH}, {classes}]; choose another, say the number in classifier.options where"
                " it is made by a function, or pick outputs by classifier.classes"
            )
        return
    numbers = _numbers(question.outputs, _categories(model, question.weights, network))
    if len(found) != 2 or found[1] <= max(numbers):
        raise InputError(
            f"classifier.classes: found {max(numbers)}, and {model} gives logits {found} for {BATCH} images;"
            f" allowed: 0 to {found[-1] - 1}"
        )


def modules(question: Question) -> list[list[str]]:
    """Name, class and shape of what each module that is called puts out, and whether `auto` takes it."""
    network, _, root = _looked_at(question)
    try:
        taken = blocks.auto(network, root, BATCH)
    except InputError:
        taken = []
    return [
        [
            call.name,
            type(call.module).__name__,
            str(list(call.output.shape[1:]))
            if isinstance(call.output, Tensor)
            else type(call.output).__name__,
            "auto" if call.name in taken else "",
        ]
        for call in root.all()
        if call.name
    ]


def check_model(model: str) -> None:
    """Refuse a name that no network has, with the nearest names."""
    if _in_torchvision(model):
        from detour import vision

        if model not in (available := vision.names()):
            raise InputError(unknown("classifier.model", model, [*NETWORKS, *available]))


def check_weights(model: str, weights: str, classes: int, picked: bool = False) -> None:
    """Refuse the name of weights that the model does not have, or has for another number of classes.

    Parameters
    ----------
    picked
        Whether some of its outputs are the classes: then it may have more.
    """
    if is_file(weights) or weights in IN_PLACE:
        return
    own = _counts(model)
    if weights not in own:
        raise InputError(unknown("classifier.weights", weights, own))
    if not picked:
        _same_classes(weights, own[weights], classes)


def _counts(model: str) -> dict[str, int]:
    """Numbers of classes of the weights that a network has by name."""
    if _in_torchvision(model):
        from detour import vision

        return {name: len(categories) for name, categories in vision.categories(model).items()}
    return {name: packaged.classes for name, packaged in WEIGHTS.get(model, {}).items()}


def _width(model: str, weights: str, classes: int, outputs: list[int | str] | None) -> int:
    """Number of outputs to make a network with: as many as classes, unless some of its outputs are picked."""
    if outputs is None or is_reference(model):
        return classes
    if is_file(weights):
        return checkpoints.outputs(checkpoints.read(weights), untrained(model, classes, 0)) or classes
    return _counts(model).get(weights, classes)


def _categories(model: str, weights: str, network: nn.Module) -> list[str]:
    """Names of a network's outputs, where its weights or a network of transformers say them; else none."""
    names = getattr(getattr(network, "config", None), "id2label", None)
    if isinstance(names, dict):
        return [str(names[i]) for i in sorted(names)]
    if _in_torchvision(model):
        from detour import vision

        own = vision.weights(model, weights)
        return own.meta["categories"] if own else []
    return []


def _numbers(outputs: list[int | str], categories: list[str]) -> list[int]:
    """Places of outputs that are told by number or name."""
    for name in (output for output in outputs if isinstance(output, str)):
        if (times := categories.count(name)) > 1:
            raise InputError(f"classifier.classes: {name!r} is the name of {times} outputs; give its number")
        if not times and not categories:
            raise InputError(
                f"classifier.classes: found {name!r}, and the network has no names for its outputs; give"
                " numbers, counted from 0"
            )
        if not times:
            raise InputError(unknown("classifier.classes", name, categories))
    found = [categories.index(output) if isinstance(output, str) else output for output in outputs]
    if twice := [output for output, times in Counter(found).items() if times > 1]:
        raise InputError(
            f"classifier.classes: found output {twice[0]} twice, by its number and by its name, expected once"
        )
    return found


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
    if weights in IN_PLACE:
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
    """Answer a `Question` of standard input; asked by `detour.config`, which must not import torch.

    With `every`, the modules are told in place of the layers.
    """
    asked = json.load(sys.stdin)
    every = asked.pop("every", False)
    answer: dict[str, Any]
    try:
        answer = {"modules": modules(Question(**asked))} if every else {"layers": look(Question(**asked))}
    except ValueError as error:
        answer = {"problems": str(error).splitlines()}
    # In a line of its own: code from outside may print, too.
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main()
