"""Vision: torchvision's networks and their weights.

Imported only by jobs that use one of them: torchvision takes longer to import than torch.
"""

from pathlib import Path

import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models

from detour.errors import InputError


def names() -> list[str]:
    """Of the classification models."""
    return list_models(module=models)


def network(model: str, classes: int) -> nn.Module:
    """A network with random weights."""
    # Otherwise they warn that this default will change.
    default = {"init_weights": False} if model in ("inception_v3", "googlenet") else {}
    return get_model(model, weights=None, num_classes=classes, **default)


def weights(model: str, name: str) -> WeightsEnum | None:
    """The weights that are meant, by the name of the enum or by that of their file."""
    members = get_model_weights(model).__members__
    by_file = (w for w in members.values() if Path(name).name == Path(w.url).name)
    # `DEFAULT` is another name of one of them.
    return members.get(name) or next(by_file, None)


def categories(model: str) -> dict[str, list[str]]:
    """Names of the classes of a model's weights, by the names of these in its enum."""
    return {name: w.meta["categories"] for name, w in get_model_weights(model).__members__.items()}


def fetched(own: WeightsEnum) -> Path:
    """Where torchvision keeps the file of those weights, once it is there."""
    path = Path(torch.hub.get_dir(), "checkpoints", Path(own.url).name)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(own.url, str(path), progress=False)
        except OSError as error:
            raise InputError(
                f"classifier.weights: cannot fetch {own.url} ({error}); fetch it elsewhere and put it at"
                f" {path}, or name where it is in classifier.weights"
            ) from error
    return path
