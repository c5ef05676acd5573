"""Pixels: from image files to tensors of one size, by Pillow and torchvision.

Imported only by jobs that read images: torchvision takes longer to import than torch.
"""

import io

from PIL import Image
from torch import Tensor
from torchvision.transforms import v2


def resized(images: Tensor, size: list[int]) -> Tensor:
    """uint8 [..., h, w] of that height and width; of one number, that is the shorter side's."""
    return v2.functional.resize(images, size, antialias=True)


def fitted(image: Tensor, resize: int, crop: int) -> Tensor:
    """The square cut from the centre of an image whose shorter side is `resize`: uint8 [3, crop, crop]."""
    return v2.functional.center_crop(resized(image, [resize]), [crop, crop])


def decoded(content: bytes) -> Tensor:
    """The pixels of an image file, whatever its format and colours; of an animation, the first image.

    Returns
    -------
    uint8 [3, H, W]

    Raises
    ------
    ValueError
        If it is no image, or not a whole one.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return v2.functional.pil_to_tensor(opened.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be decoded ({error})") from error
