"""Pixels: from image files to tensors of one size, by Pillow and torchvision.

Imported only by jobs that read images: torchvision takes longer to import than torch.
"""

import io
import re
import struct
import zlib
from contextlib import suppress
from typing import Any

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

# What they begin with.
SIGNATURES = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"P[1-6]\\s": "PPM", b"BM": "BMP",
    b"II[*+]\\0|MM\\0[*+]": "TIFF", b"(?s)RIFF.{4}WEBP": "WEBP",
}  # fmt: skip

# A marker of a JPEG: not a byte of its scans, nor one of those that scans are restarted at.
MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
SCAN, END = 0xDA, 0xD9

# What stands in no scan: codes that no table has. More of it than libjpeg reads ahead.
FILLER = b"\xff\0" * 8
# What changes pixels where it is read as the rest of a scan.
NOISE = bytes(range(1, 129)) * 4

# The passes of an interlaced PNG: where they begin, and their steps, across and down.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

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
        scans, end = _scans(content)
        # Before its end, libjpeg takes what is missing for grey; without one, the decoder asks for more
        # unless it has all pixels.
        whole = content[:end] + FILLER if scans == "sequential" else content
        with Image.open(io.BytesIO(whole), formats=FORMATS) as image:
            _refuse(image)
            _refuse_missing(image, content, end if scans == "other" else 0)
            # Looked for before anything is copied: few files have as many zeros.
            if scans == "sequential" and content.find(bytes(32), 0, end) > 0:
                _refuse_sparse(content[:end])
            return of_pillow(image)
    except UnidentifiedImageError as error:
        begins = next((kind for start, kind in SIGNATURES.items() if re.match(start, content)), None)
        if begins:
            raise InputError(
                f"cannot be decoded (begins as a {begins}, and is cut short, damaged or of an unknown kind)"
            ) from error
        kinds = ", ".join(FORMATS)
        raise InputError(f"cannot be decoded (found none of {kinds}, or one of an unknown kind)") from error
    # Decoders throw what they like: RuntimeError, struct.error, zlib.error, MemoryError ...
    except Exception as error:
        kind = "" if type(error) in (ValueError, InputError) else f"{type(error).__name__}: "
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


def _scans(content: bytes) -> tuple[str, int]:
    """How a JPEG is coded, `sequential` (in one scan) or `other`, and where its end is; "" without one."""
    coded = at = scans = 0
    while content[:2] == b"\xff\xd8" and (marker := MARKER.search(content, at)):
        code, at = content[marker.end() - 1], marker.end()
        if code == END:
            # Of Huffman codes, baseline or extended.
            return ("sequential" if scans == 1 and coded in (0xC0, 0xC1) else "other"), marker.start()
        scans += code == SCAN
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            coded = code
        if code not in (0x01, 0xD8):
            at += int.from_bytes(content[at : at + 2], "big")
    return "", 0


def _refuse_missing(image: Image.Image, content: bytes, end: int) -> None:
    """What Pillow takes for whole, and fills up with black or with grey.

    Parameters
    ----------
    end
        Where a JPEG of several scans ends; 0: it is none.
    """
    if image.mode == "P":
        count = 0
        if image.palette:
            count = len(image.palette.palette) // len((image.palette.rawmode or "RGB").split(";")[0])
        if (highest := int(image.getextrema()[1])) >= count:  # type: ignore[arg-type]
            raise InputError(f"found colour {highest} of a palette of {count}, expected colours that it has")
    if image.format == "PNG":
        w, h = image.size
        # Rows that are not there are black, so that few images need be inflated twice.
        last = [image.crop((0, y, w, y + 1)) for y in range(max(0, h - 2), h)]
        if not all(any(row.tobytes()) for row in last) and (missing := _missing_bytes(content)):
            raise InputError(f"found {missing:,} bytes of its rows missing, expected all")
    elif end:
        with Image.open(io.BytesIO(content[:end] + NOISE + content[end:]), formats=FORMATS) as other:
            if other.tobytes() != image.tobytes():
                raise InputError("found its last scan cut short, expected all of it")
    elif image.format == "TIFF" and (tags := image.tag_v2).get(259) == 7:  # type: ignore[attr-defined]
        # Strips or tiles, each a JPEG whose tables may stand elsewhere.
        places = zip(tags.get(273) or tags[324], tags.get(279) or tags[325], strict=True)
        tables = tags.get(347, b"")
        for at, length in places:
            strip = content[at : at + length]
            decoded(tables[:-2] + strip[2:] if tables else strip)


def _refuse_sparse(content: bytes) -> None:
    """A scan with zeros in it, as of a copy that was broken off, if some of its end is not read for them."""
    scan = content[content.rfind(b"\xff\xda") :].rstrip(b"\0")
    if bytes(32) not in scan:
        return
    with suppress(OSError), Image.open(io.BytesIO(content[:-64] + FILLER), formats=FORMATS) as image:
        image.load()
        raise InputError(
            "found zeros in its scan, and pixels that are complete before its end, expected neither"
        )


def _missing_bytes(content: bytes) -> int:
    """How many bytes of the rows of a PNG are not there."""
    w, h, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    sizes = [
        (-((x - w) // dx), -((y - h) // dy)) for x, y, dx, dy in (PASSES if interlaced else ((0, 0, 1, 1),))
    ]
    missing = sum(rows * (1 + (bits * columns + 7) // 8) for columns, rows in sizes if columns > 0 < rows)
    packed, at = b"", 8
    while at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        packed += content[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    unpacking = zlib.decompressobj()
    while missing > 0 and (part := unpacking.decompress(packed, min(missing, 2**20))):
        missing -= len(part)
        packed = unpacking.unconsumed_tail
    return missing


IMAGE = "a PIL image, or an array or tensor [H, W], [H, W, 3] or [3, H, W] of uint8 or of floats in [0, 1]"


def of_memory(image: Any) -> tuple[Tensor, bool]:
    """The pixels of an image that code from outside gives, and whether it asks to be turned or mirrored.

    Parameters
    ----------
    image
        As `IMAGE` says; floats are rounded to 256 levels, grey becomes three equal channels.

    Returns
    -------
    uint8 [3, H, W]
    bool

    Raises
    ------
    InputError
        If it is something else.
    """
    if isinstance(image, Image.Image):
        return of_pillow(image)
    if not isinstance(image, np.ndarray | Tensor):
        raise InputError(f"found a {type(image).__name__}, expected {IMAGE}")
    shape = list(image.shape)
    kind = f"{str(image.dtype).removeprefix('torch.')} {shape}"
    try:
        # From any device, of any layout.
        values = torch.as_tensor(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image)
        values = values.detach().cpu()
    except (TypeError, ValueError):
        raise InputError(f"found an array {kind}, expected {IMAGE}") from None
    if len(shape) == 2 and min(shape) > 0:
        values = values[None]
    elif len(shape) != 3 or min(shape) == 0 or not {shape[0], shape[2]} & {1, 3}:
        raise InputError(f"found an array {kind}, expected {IMAGE}")
    elif shape[0] not in (1, 3):
        values = values.permute(2, 0, 1)
    if values.is_floating_point():
        low, high = values.amin().item(), values.amax().item()
        if not (low >= 0 and high <= 1):
            raise InputError(f"found values from {low:g} to {high:g} in an array {kind}, expected {IMAGE}")
        values = (values * 255).round().to(torch.uint8)
    elif values.dtype is not torch.uint8:
        raise InputError(f"found an array {kind}, expected {IMAGE}")
    return values.expand(3, -1, -1), False


def of_pillow(image: Image.Image) -> tuple[Tensor, bool]:
    """The pixels of an open image, uint8 [3, H, W], and whether it asks to be turned or mirrored."""
    return _rgb(image), _is_turned(image)


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
