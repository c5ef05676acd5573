"""Geometry: controls that move an image, by torchvision."""

from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F  # noqa: N812

from detour.options.controls import geometry as options


def flip(image: Tensor, control: options.Flip, seed: int) -> Tensor:
    """Mirrored, uint8 [3, H, W]."""
    return F.horizontal_flip(image)


def crop(image: Tensor, control: options.Crop, seed: int) -> Tensor:
    """The middle, resized bilinearly with antialiasing, uint8 [3, H, W]."""
    sides = list(image.shape[1:])
    middle = F.center_crop(image, [max(1, round(side * control.factor)) for side in sides])
    return F.resize(middle, sides, InterpolationMode.BILINEAR, antialias=True)


def rotate(image: Tensor, control: options.Rotate, seed: int) -> Tensor:
    """Turned bilinearly, uint8 [3, H, W]."""
    height, width = image.shape[1:]
    # As far as a corner can come from; mirrored once, an edge reaches no further than the side.
    beyond = [width - 1, height - 1]
    wide = F.pad(image, [beyond[0], beyond[1]], padding_mode="reflect")
    turned = F.rotate(wide, float(control.degrees), InterpolationMode.BILINEAR)
    return F.center_crop(turned, [height, width])
