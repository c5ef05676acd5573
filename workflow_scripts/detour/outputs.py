"""Outputs: what the layers of a network put out in a forward pass, and which axis of it has the channels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from detour.errors import InputError

# Modules whose output has its channels at a known place. These classes alone: a subclass may permute axes.
FIRST = (
    nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm,
    nn.InstanceNorm2d, nn.LocalResponseNorm, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d, nn.Upsample, nn.PixelShuffle, nn.Dropout2d,
)  # fmt: skip
LAST = (nn.Linear, nn.LayerNorm)

EXPECTED = "[b, N], [b, N, H, W], [b, H, W, N] or [b, tokens, N]"


class OutputError(InputError):
    """A layer puts out what cannot be compared; the message has a line for each such layer."""


def channels(network: nn.Module, modules: Mapping[str, nn.Module], x: Tensor) -> dict[str, int]:
    """The axis of the channels in what each module puts out.

    It is 1 of two axes, and what the class of the module says, if it is one of `FIRST` or `LAST`. Otherwise,
    of four axes, the two of the same length are space, as images are square. Where this does not tell, images
    of twice the size do: axes that grow with them are space. If the network takes no other size, the last of
    three axes is the channels, as in transformers.

    Parameters
    ----------
    network
        In evaluation mode.
    modules
        Modules in the network, by name.
    x : [b, 3, H, H]
        A batch of images.

    Raises
    ------
    OutputError
        If a module is not called once in a pass, does not put out one tensor of floats with a row per image,
        or its channels cannot be told from space.
    """
    passed = _passed(network, modules, x)
    problems = {name: problem(outputs, len(x)) for name, outputs in passed.items()}
    _refuse(problems)
    shapes = {name: outputs[0].shape for name, outputs in passed.items()}
    axes = {name: _axis(module, shapes[name]) for name, module in modules.items()}
    unclear = [name for name, axis in axes.items() if axis is None]
    larger = _larger(network, {name: modules[name] for name in unclear}, x) if unclear else {}
    for name in unclear:
        axes[name] = _constant(shapes[name], larger.get(name, shapes[name]))
    _refuse({
        name: f"puts out {list(shapes[name])}, of which the axis of the channels cannot be told; name a"
        " module within it or around it"
        for name, axis in axes.items()
        if axis is None
    })  # fmt: skip
    return {name: axis for name, axis in axes.items() if axis is not None}


def average(output: Tensor, axis: int) -> Tensor:
    """Mean over all axes but the first and that of the channels: over space or tokens.

    Parameters
    ----------
    output : [b, N], [b, N, H, W], [b, H, W, N] or [b, tokens, N]
    axis
        That of the channels, N.

    Returns
    -------
    float32 [b, N]
        A copy always: a later module may change its input in place.
    """
    space = [d for d in range(1, output.ndim) if d != axis]
    return output.mean(space, dtype=torch.float32) if space else output.to(torch.float32, copy=True)


def _refuse(problems: Mapping[str, str]) -> None:
    if lines := [f"classifier.layers: {name!r} {wrong}" for name, wrong in problems.items() if wrong]:
        raise OutputError("\n".join(lines))


def _passed(network: nn.Module, modules: Mapping[str, nn.Module], x: Tensor) -> dict[str, list[Any]]:
    """What each module puts out in one pass, for each of its calls; of tensors shape and type alone."""
    found: dict[str, list[Any]] = {name: [] for name in modules}

    def keep(name: str, output: Any) -> None:
        found[name].append(without_data(output))

    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: keep(name, output))
        for name, module in modules.items()
    ]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def without_data(output: Any) -> Any:
    """Of a tensor shape and type alone; whatever else as it is."""
    return torch.empty_like(output, device="meta") if isinstance(output, Tensor) else output


def problem(outputs: list[Any], batch: int) -> str:
    """Why what a module put out in a pass, for each of its calls, cannot be compared; empty if it can."""
    if not outputs:
        return "is never called when the network classifies, expected one call; name a module that is"
    if len(outputs) > 1:
        return (
            f"is called {len(outputs)} times in a pass, expected once, as one output alone can be compared;"
            " name the module around it, or one that is called once"
        )
    output = outputs[0]
    if not isinstance(output, Tensor):
        return (
            f"puts out a {type(output).__name__}, expected one tensor; name a module within it or around it"
        )
    if not output.is_floating_point():
        return f"puts out values of type {output.dtype}, expected floats; name another module"
    if output.ndim not in (2, 3, 4) or output.shape[0] != batch or not output.numel():
        return (
            f"puts out {list(output.shape)} for a batch of {batch} images, expected {EXPECTED}; name a module"
            " around it"
        )
    return ""


def _axis(module: nn.Module, shape: torch.Size) -> int | None:
    if len(shape) == 2 or type(module) in FIRST:
        return 1
    if type(module) in LAST and len(getattr(module, "normalized_shape", "N")) == 1:
        return len(shape) - 1
    match shape[1:]:
        case a, b, c if a != b == c:
            return 1
        case a, b, c if a == b != c:
            return 3
    return None


def _larger(network: nn.Module, modules: Mapping[str, nn.Module], x: Tensor) -> dict[str, torch.Size]:
    """Shapes of what the modules put out for images of twice the size; nothing if it takes none."""
    # Without data: an index beyond a table, such as that of positions, would be the end of a CUDA context.
    tensors = (*network.named_parameters(), *network.named_buffers())
    state = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    twice = torch.empty(len(x), 3, 2 * x.shape[2], 2 * x.shape[3], dtype=x.dtype, device="meta")

    class Empty(nn.Module):
        def forward(self, images: Tensor) -> Any:
            return functional_call(network, state, (images,))

    try:
        passed = _passed(Empty(), modules, twice)
    # Whatever a network says to a size that it was not made for.
    except Exception:
        return {}
    return {name: outputs[0].shape for name, outputs in passed.items() if outputs}


def _constant(shape: torch.Size, larger: torch.Size) -> int | None:
    """The one axis that does not grow with the image; of [b, tokens, N], the last if none does."""
    constant = [d for d in range(1, len(shape)) if shape[d] == larger[d]]
    if len(constant) == 1:
        return constant[0]
    return 2 if len(shape) == 3 else None
