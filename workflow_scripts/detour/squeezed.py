"""Squeezed: logits of images of which some detail was taken away (Xu et al. 2018, section 3)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import median_filter

from detour import classifiers, store
from detour.classifiers import Classifier
from detour.logs import progress
from detour.store import Made


def fewer_bits(images: np.ndarray, bits: int) -> np.ndarray:
    """Each value rounded to the nearest of 2^bits levels.

    Parameters
    ----------
    images : uint8 [n, 3, H, W]

    Returns
    -------
    float32 [n, 3, H, W]
        In [0, 1].
    """
    highest = np.float32(2**bits - 1)
    return np.rint(images * (highest / 255)) / highest


def smoothed(images: np.ndarray, size: int) -> np.ndarray:
    """The median of a square of `size` pixels in place of each pixel, channel by channel.

    As in the paper: of an even number of pixels, the greater of the two in the middle; where the side is
    even, the pixel is the lower right one of those in the middle; at the edges, images are mirrored.

    Parameters
    ----------
    images : uint8 [n, 3, H, W]

    Returns
    -------
    float32 [n, 3, H, W]
        In [0, 1].
    """
    return median_filter(images, (1, 1, size, size), mode="reflect") / np.float32(255)


SQUEEZERS = {"bits": fewer_bits, "median": smoothed}


@torch.inference_mode()
def logits(classifier: Classifier, images: np.ndarray, squeezer: str, by: int) -> np.ndarray:
    """What the classifier says of squeezed images, which are not rounded to bytes again.

    Parameters
    ----------
    images : uint8 [n, 3, H, W]
    squeezer
        One of `SQUEEZERS`.
    by
        Number of bits, or size of the median's square.

    Returns
    -------
    float32 [n, C]
    """
    x = torch.from_numpy(SQUEEZERS[squeezer](images, by))
    return classifier(x.to(classifier.mean.device)).cpu().numpy()


def extract(
    classifier: str | Path, images: str | Path, out: str | Path, *,
    bits: Sequence[int], median: Sequence[int], batch_size: int, device: str, made: Made,
) -> None:  # fmt: skip
    """Store the `logits` of a set's images after each squeezer: `bits-5`, `median-2`, ..., float32 [n, C].

    Parameters
    ----------
    bits, median
        Numbers of bits and sizes of the median's square to squeeze by, each by itself.
    """
    net = classifiers.load(classifier, classifiers.device_of(device))
    stored = store.read(images)
    asked = [*(("bits", n) for n in bits), *(("median", n) for n in median)]

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        starts = range(0, stored["images"].shape[0], batch_size)
        for start in progress(starts, len(starts), f"{Path(images).name}: batches of {batch_size}"):
            x = stored["images"][start : start + batch_size]
            yield {f"{squeezer}-{by}": logits(net, x, squeezer, by) for squeezer, by in asked}

    with store.create(out, made, [classifier, images], device=str(net.mean.device)) as group:
        store.write(group, blocks())
