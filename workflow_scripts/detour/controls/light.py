"""Light: controls that change brightness and colours, by torchvision.

Its `adjust_brightness` and `adjust_contrast` cut off what is not whole, so that images get darker by
up to 1.2 of 255.
"""

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F  # noqa: N812

from detour.options.controls import light as options


def brightness(image: Tensor, control: options.Brightness, seed: int) -> Tensor:
    """Multiplied, uint8 [3, H, W]."""
    return F.adjust_brightness(image, control.factor)


def contrast(image: Tensor, control: options.Contrast, seed: int) -> Tensor:
    """Blended with its mean in grey, uint8 [3, H, W]."""
    return F.adjust_contrast(image, control.factor)


def gamma(image: Tensor, control: options.Gamma, seed: int) -> Tensor:
    """255 (v / 255)^gamma, uint8 [3, H, W]."""
    return F.adjust_gamma(image, control.gamma)


def grey(image: Tensor, control: options.Grey, seed: int) -> Tensor:
    """Luma in all three channels, uint8 [3, H, W]."""
    # By Pillow: torchvision cuts off what it does not store, and makes grey images darker.
    luma = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")
    return F.pil_to_tensor(luma).expand(3, -1, -1)
