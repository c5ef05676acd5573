"""Outside: attacks that are no part of this project."""

import inspect
from typing import Any

from torch import Tensor

from detour import methods
from detour.attacks.batch import Batch
from detour.classifiers import Classifier
from detour.errors import InputError
from detour.options.attacks import Outside

ARGUMENTS = ("classifier", "x", "y", "seeds")


def perturbed(classifier: Classifier, batch: Batch, attack: Outside) -> Tensor:
    """What the function makes of the pixels, float32 [b, 3, H, W]."""
    found = methods.loaded(attack.method)(
        classifier, batch.x.clone(), batch.y, list(batch.seeds), **_arguments(attack)
    )
    expected = f"a tensor {list(batch.x.shape)} of pixels in [0, 1]"
    if not isinstance(found, Tensor):
        raise InputError(f"{attack.method} returned a {type(found).__name__}, expected {expected}")
    if found.shape != batch.x.shape:
        raise InputError(f"{attack.method} returned a tensor {list(found.shape)}, expected {expected}")
    found = found.to(batch.x)
    if not found.isfinite().all():
        raise InputError(f"{attack.method} returned pixels that are not finite, expected {expected}")
    if (low := found.amin().item()) < -1e-6 or found.amax().item() > 1 + 1e-6:
        raise InputError(
            f"{attack.method} returned pixels from {low:g} to {found.amax().item():g}, expected {expected}"
        )
    return found.clamp(0, 1)


def described(attack: Outside) -> dict[str, Any]:
    """Nothing: only that the function can be called with its options.

    Raises
    ------
    InputError
        If it cannot.
    """
    function = methods.loaded(attack.method)
    try:
        inspect.signature(function).bind(*ARGUMENTS, **_arguments(attack))
    except (TypeError, ValueError) as error:
        called = f"function({', '.join(ARGUMENTS)}, **options)"
        raise InputError(
            f"{attack.method} cannot be called as {called}: {error}; correct `options`"
        ) from None
    return {}


def _arguments(attack: Outside) -> dict[str, Any]:
    """The options, and what the function asks for by name."""
    offered = {"eps": None if attack.eps is None else attack.eps / 255, "targeted": attack.targeted}
    wanted = inspect.signature(methods.loaded(attack.method)).parameters
    return {name: value for name, value in offered.items() if name in wanted} | attack.options
