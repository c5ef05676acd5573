"""Detail: controls that take fine detail away."""

import math
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d, pad
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F  # noqa: N812

from detour.options.controls import detail as options

# Points of a pixel's side at which is looked whether it is in a disc or on a line.
POINTS = 9


def jpeg(image: Tensor, control: options.JPEG, seed: int) -> Tensor:
    """Decoded of what it is compressed to, uint8 [3, H, W]."""
    # By Pillow: torchvision is giving its own codec up.
    file = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=control.quality)
    return F.pil_to_tensor(Image.open(file))


def gaussian_blur(image: Tensor, control: options.GaussianBlur, seed: int) -> Tensor:
    """Smoothed, uint8 [3, H, W]."""
    # What is mirrored at an edge is shorter than the side.
    reach = min(math.ceil(3 * control.sigma), min(image.shape[1:]) - 1)
    return F.gaussian_blur(image, [2 * reach + 1] * 2, [float(control.sigma)] * 2)


def defocus(image: Tensor, control: options.Defocus, seed: int) -> Tensor:
    """Mean over a disc, uint8 [3, H, W]."""
    x, y = _points(math.ceil(control.radius))
    return _smoothed(image, np.hypot(x, y) <= control.radius)


def motion(image: Tensor, control: options.Motion, seed: int) -> Tensor:
    """Mean along a line, uint8 [3, H, W]."""
    angle = np.random.default_rng(seed).uniform(0, np.pi)
    x, y = _points(control.length // 2 + 1)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return _smoothed(image, (abs(along) <= control.length / 2) & (abs(across) <= 0.5))


def rescale(image: Tensor, control: options.Rescale, seed: int) -> Tensor:
    """Smaller and as before, both bilinear with antialiasing, uint8 [3, H, W]."""
    sides = image.shape[1:]
    smaller = [max(1, round(side * control.factor)) for side in sides]
    if smaller == [1, 1]:
        # The mean; torch has an internal error there, as it takes one pixel for channels that come last.
        return image.float().mean((1, 2), keepdim=True).round().to(image.dtype).expand_as(image)
    for size in (smaller, list(sides)):
        image = F.resize(image, size, InterpolationMode.BILINEAR, antialias=True)
    return image


def _points(reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the points of (2 reach + 1)^2 pixels are from the middle: two of float64 [side, POINTS] * 2."""
    inside = (np.arange(POINTS) + 0.5) / POINTS - 0.5
    at = np.arange(-reach, reach + 1)[:, None] + inside
    return at[None, None], at[:, :, None, None]


def _smoothed(image: Tensor, covered: np.ndarray) -> Tensor:
    """The mean over neighbours, by the share of each that is covered; mirrored beyond the edges.

    Parameters
    ----------
    covered : bool [side, POINTS, side, POINTS]
    """
    kernel = torch.from_numpy(covered.mean((1, 3)))
    kernel /= kernel.sum()
    # As far as the image is large.
    cut = [max(0, len(kernel) // 2 - (side - 1)) for side in image.shape[1:]]
    kernel = kernel[cut[0] : len(kernel) - cut[0], cut[1] : kernel.shape[1] - cut[1]]
    kernel = kernel / kernel.sum()
    reach = [side // 2 for side in kernel.shape]
    padded = pad(image.double()[:, None], (reach[1], reach[1], reach[0], reach[0]), mode="reflect")
    return conv2d(padded, kernel[None, None])[:, 0].round().clamp(0, 255).to(torch.uint8)
