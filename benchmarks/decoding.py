"""Decoding: JPEG files to the pixels that InceptionV3 takes, one core.

Photographs in the sizes of ImageNet (most are 500 x 375, some far larger) and of Tiny ImageNet. The baseline
is the transform that torchvision evaluates its weights with, on Pillow's images: shorter side to 342, centre
of 299. `off by` is the largest and mean difference of a pixel from it, in levels of 255.
"""

import io
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.models import Inception_V3_Weights
from torchvision.transforms import v2

from benchmarks import timing
from benchmarks.photographs import photographs
from benchmarks.sections import Table
from detour.datasets.photographs import Folders
from detour.pixels import decoded

GOAL = (
    "Decoding is not what a GPU waits for, and stays within one level of torchvision's reference transform."
)

NOTES = [
    "The reference transform resizes by Pillow; torch resizes uint8 in less than half of that time, to the same"
    " level but for a few pixels. That is what Detour does.",
    "Scaled decoding (`draft`) can halve a side only where it is twice the 342 that are needed: nothing at"
    " ImageNet's usual size; at larger ones it is fast and off by several levels. Not taken.",
    "torchvision's own decoder is somewhat faster than Pillow's, and deprecated since 0.29 in favour of"
    " TorchCodec, whose wheel for Linux is one for CUDA. Not taken: one decoder that reads every format is worth"
    " more than that; with 8 to 16 workers decoding is ahead of the GPU.",
    "nvJPEG needs a GPU.",
]

REFERENCE = "torchvision's transform"
SIZES = {"500 x 375, most of ImageNet": (500, 375), "1600 x 1200": (1600, 1200), "64 x 64": (64, 64)}
RESIZE, CROP = 342, 299
FOLDER = Folders.model_construct(resize=RESIZE, crop=CROP)


def run(quick: bool) -> list[Table]:
    torch.set_num_threads(1)
    count, rounds = (2, 1) if quick else (30, 5)
    return [measured(title, size, count, rounds) for title, size in SIZES.items()]


def measured(title: str, size: tuple[int, int], count: int, rounds: int) -> Table:
    """All candidates on photographs of one size."""
    files = [jpeg(picture.resize(size, Image.Resampling.BICUBIC)) for picture in photographs(count)]
    found = timing.side_by_side(
        {name: partial(each, call, files) for name, call in CANDIDATES.items()}, REFERENCE, rounds
    )
    rows = []
    for name, timed in found.items():
        off = (timed.output.int() - found[REFERENCE].output.int()).abs()
        difference = f"{int(off.max())}, {off.float().mean():.4f}"
        rows.append(timing.row(name, timed, len(files), "images") | {"off by": difference})
    if not torch.cuda.is_available():
        rows.append({"candidate": "nvJPEG", "seconds": "not measured"})
    else:
        batch = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
        try:
            timed = timing.side_by_side({"": partial(decode_jpeg, batch, device="cuda")}, "", rounds)[""]
        except RuntimeError as error:
            # A torchvision that was built without it.
            rows.append({"candidate": "nvJPEG", "seconds": f"not measured: {str(error).splitlines()[0]}"})
        else:
            rows.append(
                timing.row("nvJPEG, without resizing", timed, len(files), "images")
                | {"ratio": timed.seconds / found[REFERENCE].seconds}
            )
    return Table(f"{title}, {len(files)} files of {np.mean([len(f) for f in files]) / 1e3:.0f} kB", rows)


def jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=92)
    return file.getvalue()


def each(call: Callable[[bytes], Tensor], files: list[bytes]) -> Tensor:
    return torch.stack([call(file) for file in files])


def detour(file: bytes) -> Tensor:
    return FOLDER.fit(decoded(file))


def reference(file: bytes) -> Tensor:
    preset = Inception_V3_Weights.IMAGENET1K_V1.transforms()
    picture = Image.open(io.BytesIO(file)).convert("RGB")
    resized = v2.functional.resize(picture, preset.resize_size, interpolation=preset.interpolation)
    return v2.functional.pil_to_tensor(v2.functional.center_crop(resized, preset.crop_size))


def by_box(file: bytes, *, scaled: bool = False) -> Tensor:
    """Pillow, resizing no more than the crop; `scaled`: decoding at an eighth, a quarter or a half if it can."""
    picture = Image.open(io.BytesIO(file))
    if scaled:
        picture.draft("RGB", (RESIZE, RESIZE))
    picture = picture.convert("RGB")
    w, h = picture.size
    width, height = (RESIZE, RESIZE * h // w) if w < h else (RESIZE * w // h, RESIZE)
    left, top = round((width - CROP) / 2), round((height - CROP) / 2)
    x, y = w / width, h / height
    box = (left * x, top * y, (left + CROP) * x, (top + CROP) * y)
    return v2.functional.pil_to_tensor(picture.resize((CROP, CROP), Image.Resampling.BILINEAR, box))


def by_torchvision(file: bytes) -> Tensor:
    with warnings.catch_warnings():
        # That it is deprecated, each time.
        warnings.simplefilter("ignore", DeprecationWarning)
        pixels = decode_jpeg(torch.frombuffer(bytearray(file), dtype=torch.uint8), mode=ImageReadMode.RGB)
    return FOLDER.fit(pixels)


CANDIDATES: dict[str, Callable[[bytes], Tensor]] = {
    REFERENCE: reference,
    "Detour": detour,
    "Pillow, crop before resizing": by_box,
    "Pillow, scaled decoding": partial(by_box, scaled=True),
    "torchvision's decoder": by_torchvision,
}
