"""Random draws that depend on what they are for, and on nothing else."""

from hashlib import blake2b

import numpy as np


def draw(seed: int, purpose: str, key: int) -> np.random.Generator:
    """The random generator of one image, by its `key`, or of another thing with a number, for one purpose.

    Adding an image, or another purpose, changes no other image's draws.
    """
    return np.random.default_rng([seed, key, *purpose.encode()])


def key(name: str) -> int:
    """The number, of 63 bits, that an image's draws depend on: by its name, not its place among others."""
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
