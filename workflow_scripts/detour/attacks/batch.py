"""Batch: images under attack, and what attacks do to pixels."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# An image to start from, of a class.
Start = Callable[[int], np.ndarray | None]

Model = Callable[[Tensor], Tensor]

NORMS = {"linf": np.inf, "l2": 2, "l1": 1}


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
    rows
        Which of the run's test images they are.
    count
        How many those are in all.
    names
        What a person knows all of them by.
    """

    x: Tensor
    y: Tensor
    seeds: list[int]
    start: Start
    rows: slice | None = None
    count: int = 0
    names: Sequence[str] = ()


def with_gradient(model: Model, change: Callable[[Tensor], Tensor]) -> Model:
    """The same logits; `change` is applied to the gradient of the images."""

    def forward(x: Tensor) -> Tensor:
        x = x.view_as(x)
        if x.requires_grad:
            x.register_hook(change)
        return model(x)

    return forward


def pixels(images: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).float().div(255)


def as_bytes(x: Tensor) -> Tensor:
    """The pixels, rounded as they are stored; the gradient ignores the rounding."""
    return x - x.detach() + x.detach().mul(255).round().div(255)


@torch.no_grad()
def fools(model: Model, x: Tensor, y: Tensor, targeted: bool) -> Tensor:
    return (model(x).argmax(1) == y) == targeted


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, of the CPU and of `device`, and restore them at the end."""
    # Not `torch.manual_seed`, which seeds every GPU of the machine.
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for generator in generators:
            generator.manual_seed(seed)
        yield
