"""Pixels: from image files to tensors of one size, by Pillow and torchvision.

Imported only by jobs that read images: torchvision takes longer to import than torch.
"""

import io
import re
from contextlib import suppress

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import v2

from detour.errors import InputError
from detour.spelling import shown

# What a file is, by its content; nothing else is opened. Pillow knows dozens more, and hands some of them to
# other programs.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")

# Of an image as its header has it, and as it is before the crop: so many take 0.7 GB, of WebP 1.4 GB.
PIXELS = 2**26


def resized(images: Tensor, size: list[int]) -> Tensor:
    """uint8 [..., h, w] of that height and width; of one number, that is the shorter side's."""
    return v2.functional.resize(images, size, antialias=True)


def fitted(image: Tensor, resize: int, crop: int) -> Tensor:
    """The square cut from the centre of an image whose shorter side is `resize`: uint8 [3, crop, crop].

    Raises
    ------
    ValueError
        If an image is so long that it would have more than `PIXELS` before the crop.
    """
    shorter, longer = sorted(image.shape[1:])
    if resize**2 * longer > PIXELS * shorter:
        raise InputError(
            f"found {image.shape[2]} x {image.shape[1]} pixels, which are more than {PIXELS:,} once the"
            f" shorter side has {resize} (dataset.resize)"
        )
    return v2.functional.center_crop(resized(image, [resize]), [crop, crop])


def decoded(content: bytes) -> Tensor:
    """The pixels of an image file; see `with_orientation`."""
    return with_orientation(content)[0]


def with_orientation(content: bytes) -> tuple[Tensor, bool]:
    """The pixels of an image file of one of the `FORMATS`, and whether it asks to be turned or mirrored.

    Of an animation, the first image; transparency and colour profiles are ignored. Of values of 16 bits the
    upper 8 are taken. An orientation in EXIF is not followed, as in torchvision's ImageFolder; a TIFF's is.

    Returns
    -------
    uint8 [3, H, W]
    bool

    Raises
    ------
    ValueError
        If it is no such image, or not a whole one, has more than `PIXELS` or values of unknown range.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _refuse(image)
            pixels = _rgb(image)
            return pixels, _is_turned(image)
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise InputError(f"cannot be decoded (found none of {kinds}, or one of an unknown kind)") from error
    # Decoders throw what they like: RuntimeError, struct.error, zlib.error, MemoryError ...
    except Exception as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        # An address in memory is another in every run.
        said = re.sub(r"<[^<>]* at 0x[0-9a-fA-F]+>", "the file", str(error))
        raise InputError(f"cannot be decoded ({kind}{shown(said)})") from error


def _refuse(image: Image.Image) -> None:
    """Before any pixel is decoded."""
    if not 0 < image.width * image.height <= PIXELS:
        raise InputError(f"found {image.width} x {image.height} pixels, allowed: 1 to {PIXELS:,}")
    tags = image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]
    bits = max(tags.get(ExifTags.Base.BitsPerSample, (1,)))
    white = tags.get(ExifTags.Base.PhotometricInterpretation, 1)
    kinds = set(tags.get(ExifTags.Base.SampleFormat, (1,)))
    # Pillow takes signed values for unsigned, and 12 bits for 16, and does not invert 16.
    if kinds - {1} or bits > 16 or 8 < bits < 16 or (bits == 16 and white == 0):
        raise InputError(
            f"found a TIFF with values of {bits} bits, SampleFormat {sorted(kinds)} and Photometric"
            f"Interpretation {white}, expected unsigned values of 8 bits, or 16 with 0 as black; convert it"
        )


def _rgb(image: Image.Image) -> Tensor:
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):
        # As Pillow does where there are three channels; its own conversion cuts off what is above 255.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return torch.from_numpy(grey).expand(3, -1, -1)
    if image.mode in ("I", "F"):
        raise InputError(
            f"found values of 32 bits (Pillow's mode {image.mode}), whose range no file says; convert it to 8"
            " or 16"
        )
    return v2.functional.pil_to_tensor(image.convert("RGB"))


def _is_turned(image: Image.Image) -> bool:
    # What is wrong with EXIF does no harm to pixels.
    with suppress(Exception):
        return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    return False
