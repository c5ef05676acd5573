"""Outside: controls that are no part of this project, such as torchvision's transforms."""

from typing import Any

import torch
from torch import Tensor

from detour import methods
from detour.errors import InputError
from detour.options.controls import Outside

# Of the image that tells whether the change can be made.
SIDE = 32


def changed(image: Tensor, control: Outside, seed: int) -> Tensor:
    """What it makes of an image, uint8 [3, H, W]; what it draws of torch is by the seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return methods.loaded(control.method)(**control.options)(image.clone())


def described(control: Outside) -> dict[str, Any]:
    """Nothing: only that it can be made with its options, and called.

    Raises
    ------
    InputError
        If it cannot.
    """
    image = torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8)
    try:
        found = changed(image, control, 0)
    except InputError:
        raise
    # Whatever the code of others raises.
    except Exception as error:
        called = ", ".join(f"{name}={value!r}" for name, value in control.options.items())
        raise InputError(
            f"{control.method}({called}) of an image raised {type(error).__name__}: {error}; correct"
            " `options`"
        ) from error
    if not isinstance(found, Tensor) or found.dtype != torch.uint8 or found.shape != image.shape:
        raise InputError(
            f"{control.method} of an image uint8 [3, {SIDE}, {SIDE}] is none of that shape and type, but"
            f" {type(found).__name__}"
        )
    return {}
