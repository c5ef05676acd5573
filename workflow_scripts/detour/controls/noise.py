"""Noise: controls that add noise; values are rounded, and cut at 0 and 255."""

import torch
from torch import Tensor

from detour.options.controls import noise as options


def _drawing(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _bytes(image: Tensor) -> Tensor:
    return image.round().clamp(0, 255).to(torch.uint8)


def noise(image: Tensor, control: options.Noise, seed: int) -> Tensor:
    """Uniform in [-eps, eps], uint8 [3, H, W]."""
    drawn = torch.rand(image.shape, generator=_drawing(seed), dtype=torch.float64)
    return _bytes(image + (2 * drawn - 1) * control.eps)


def gaussian_noise(image: Tensor, control: options.GaussianNoise, seed: int) -> Tensor:
    """Normal, uint8 [3, H, W]."""
    drawn = torch.randn(image.shape, generator=_drawing(seed), dtype=torch.float64)
    return _bytes(image + drawn * control.sigma)


def shot_noise(image: Tensor, control: options.ShotNoise, seed: int) -> Tensor:
    """Poisson, uint8 [3, H, W]."""
    photons = image.double() / 255 * control.photons
    return _bytes(torch.poisson(photons, generator=_drawing(seed)) / control.photons * 255)
