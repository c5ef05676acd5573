"""Classifiers: torchvision's networks, trained here or elsewhere, and the layers to look at."""

import json
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import models
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models.inception import Inception3
from torchvision.models.resnet import ResNet
from torchvision.models.swin_transformer import SwinTransformer

from detour import store
from detour.artefacts import written
from detour.images import Digits, Folder, Labelled
from detour.spelling import unknown
from detour.store import Made

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """How `weights: train` trains."""

    epochs: int
    batch_size: int
    lr: float


class Classifier(nn.Module):
    """A network that takes pixels in [0, 1] and normalises them itself.

    Parameters
    ----------
    network
        Takes normalised pixels, returns logits.
    mean, std
        Of the normalisation, per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [b, C] of pixels in [0, 1], float32 [b, 3, H, W]."""
        logits = self.network((x - self.mean) / self.std)
        # Inception returns its auxiliary logits beside them while it trains.
        return getattr(logits, "logits", logits)

    def layer(self, name: str) -> nn.Module:
        """The module of that name in the network."""
        return self.network.get_submodule(name)


def device_of(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means here.

    Raises
    ------
    ValueError
        If CUDA is asked for and torch sees none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("device: found 'cuda', and torch sees no GPU here; use 'auto' or 'cpu'")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def untrained(model: str, classes: int, seed: int) -> nn.Module:
    """A network of torchvision with random weights."""
    torch.manual_seed(seed)
    return _network(model, classes, init_weights=True)


def pretrained(model: str, weights: str, classes: int) -> nn.Module:
    """A network of torchvision with weights from elsewhere.

    Parameters
    ----------
    model
        Its name in torchvision.
    weights
        The name of a weight enum, or the path of a state dict.
    classes
        Number of classes of the reference images.

    Raises
    ------
    ValueError
        If the weights are for another network or another number of classes.
    """
    enum = get_model_weights(model)
    if weights in enum.__members__:
        outputs = len(enum[weights].meta["categories"])
        if outputs != classes:
            raise ValueError(
                f"classifier.weights: {weights} has {outputs} classes, the reference images {classes};"
                " use reference images of the classes that the network was trained on"
            )
        return get_model(model, weights=weights)
    network = _network(model, classes)
    try:
        _load_state(network, torch.load(weights, map_location="cpu", weights_only=True))
    except (RuntimeError, AttributeError, TypeError, UnpicklingError) as error:
        raise ValueError(
            f"classifier.weights: {weights} is no state dict of {model} with {classes} classes, one per"
            f" folder of the reference: {error}"
        ) from error
    return network


def _network(model: str, classes: int, *, init_weights: bool = False) -> nn.Module:
    """A network of torchvision; drawing initial weights takes the Inceptions half a minute."""
    drawn = {"init_weights": init_weights} if model in ("inception_v3", "googlenet") else {}
    return get_model(model, weights=None, num_classes=classes, **drawn)


def _load_state(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load strictly but for the auxiliary heads, which only training uses."""
    keys = network.load_state_dict(state, strict=False)
    wrong = [k for k in (*keys.missing_keys, *keys.unexpected_keys) if "aux" not in k.lower()]
    if wrong:
        raise RuntimeError(f"missing or unexpected: {', '.join(wrong[:5])} ({len(wrong)} in all)")


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
    batches = DataLoader(images.images, min(n, training.batch_size), shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(classifier.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.lr, epochs=training.epochs, steps_per_epoch=len(batches)
    )
    begin = time.monotonic()
    for epoch in range(1, training.epochs + 1):
        right = seen = 0
        for x, y in batches:
            x, y = x.to(device).float().div(255), y.to(device)
            logits = classifier(x)
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(logits, y).backward()
            optimizer.step()
            schedule.step()
            right += int((logits.argmax(1) == y).sum())
            seen += len(y)
        spent = time.monotonic() - begin
        logger.info(
            "epoch %d of %d: %.1f %% of the training images right, %.0f s left",
            epoch, training.epochs, 100 * right / seen, spent / epoch * (training.epochs - epoch),
        )  # fmt: skip


def prepare(
    out: str | Path, *, model: str, weights: str, mean: list[float], std: list[float], classes: int,
    made: Made, training: Training | None = None, dataset: Digits | Folder | None = None,
    device: str = "cpu", seed: int = 0,
) -> None:  # fmt: skip
    """Train or fetch the classifier of a run and store it with what is needed to build it again.

    Parameters
    ----------
    weights
        `train`, the name of a weight enum, or the path of a state dict.
    classes
        Number of classes of the reference images.
    training, dataset, device, seed
        Where `weights` is `train`: how, on whose reference images, where, and of the first weights and the
        order of the images.
    """
    used = device_of(device)
    if training and dataset:
        classifier = Classifier(untrained(model, classes, seed), mean, std)
        train(classifier, dataset.reference_images(), training, seed, used)
    else:
        classifier = Classifier(pretrained(model, weights, classes), mean, std)
    network = {
        "model": model,
        "classes": classes,
        # Set by torchvision's own weights of Inception, and no part of the state.
        "transform_input": getattr(classifier.network, "transform_input", None),
    }
    sources = [weights] if Path(weights).is_file() else []
    about = store.attributes_of(made, sources, device=str(used))
    with written(out) as part:
        torch.save({"state": classifier.cpu().state_dict(), **network, "made": about}, part)


def load(path: str | Path, device: torch.device) -> Classifier:
    """The classifier of a run, frozen and in evaluation mode."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    network = _network(saved["model"], saved["classes"])
    if saved["transform_input"] is not None:
        network.transform_input = saved["transform_input"]
    classifier = Classifier(network, [0.0] * 3, [1.0] * 3)
    _load_state(classifier, saved["state"])
    # Without this every step of an attack accumulates the gradients of the weights as well.
    classifier.requires_grad_(False).eval()
    return classifier.to(device).to(memory_format=torch.channels_last)


def layers(model: str, names: str | list[str]) -> list[str]:
    """Names of the layers to compare, in the order of the data.

    Parameters
    ----------
    names
        Names of modules, or `auto`: the stem and every block.

    Raises
    ------
    ValueError
        If torchvision has no such model or the model no such layer, with the nearest names.
    """
    available = list_models(module=models)
    if model not in available:
        raise ValueError(unknown("model", model, available))
    try:
        with torch.device("meta"):
            network = _network(model, classes=2)
    except NotImplementedError:
        # RegNets look at their first weights.
        network = _network(model, classes=2)
    if isinstance(network, SwinTransformer):
        raise ValueError(
            f"model: found {model!r}, whose blocks put their channels last, allowed: models whose layers put"
            " out [b, N], [b, N, H, W] or [b, tokens, N]"
        )
    if isinstance(names, str):
        return _auto(model, network)
    known = [name for name, _ in network.named_modules() if name]
    for name in names:
        if name not in known:
            raise ValueError(unknown("layers", name, known))
    return names


def check_weights(model: str, weights: str) -> None:
    """Refuse the name of a weight enum that the model does not have."""
    if weights.isupper():
        names = list(get_model_weights(model).__members__)
        if weights not in names:
            raise ValueError(unknown("weights", weights, names))


def _auto(model: str, network: nn.Module) -> list[str]:
    match network:
        case ResNet():
            blocks = [
                f"layer{i}.{j}" for i in range(1, 5) for j in range(len(network.get_submodule(f"layer{i}")))
            ]
            return ["maxpool", *blocks]
        case Inception3():
            return [
                "maxpool2",
                *(name for name, _ in network.named_children() if name.startswith("Mixed")),
            ]
    raise ValueError(
        f"layers: found 'auto', and {model} is of neither the ResNet nor the Inception family; list names of"
        f" its modules, among them: {', '.join(name for name, _ in network.named_children())}"
    )


if __name__ == "__main__":
    # Asked by `detour.config.layers`, which must not import torch.
    question = json.load(sys.stdin)
    names = layers(question["model"], question["layers"])
    check_weights(question["model"], question["weights"])
    json.dump(names, sys.stdout)
