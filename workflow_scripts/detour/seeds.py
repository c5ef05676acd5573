"""Random draws that depend on what they are for, and on nothing else."""

import numpy as np


def draw(seed: int, purpose: str, source: int) -> np.random.Generator:
    """The random generator of one image for one purpose.

    Adding an image, or another purpose, changes no other image's draws.
    """
    return np.random.default_rng([seed, source, *purpose.encode()])
