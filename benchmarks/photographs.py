"""Photographs to measure with: the shared NIPS 2017 images where they are, scikit-learn's two where not."""

import os
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images


def photographs(count: int) -> Iterator[Image.Image]:
    """So many pictures in RGB, again from the first where there are fewer."""
    folder = Path(os.environ.get("DETOUR_DATA", ""), "nips2017-dev-100/images")
    paths = sorted(folder.glob("*.png"))
    found = (
        [Image.open(path).convert("RGB") for path in paths[:count]]
        if paths
        else [Image.fromarray(pixels) for pixels in load_sample_images().images]
    )
    return islice(cycle(found), count)
