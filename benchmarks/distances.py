"""Distances: of 1,000 images to the medoids of 1,000 classes, at two widths of InceptionV3.

One thread each. The error is the greatest relative difference from float64 `cdist`.
"""

from functools import partial

import numpy as np
import torch
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from benchmarks import timing
from benchmarks.sections import Table
from detour.distances import distances

GOAL = "Ahead of the plain ways; the bare float64 product is the bound."

NOTES = [
    "A product with |x|^2 + |y|^2 - 2xy, as in torch.cdist in float64, takes a tenth of the time, and loses the digits"
    " of a distance that is small beside the norms: to an image's own medoid, say. ImageNet's 12 layers take 1,000"
    " images some seconds either way, so the exact one stays.",
]

BARE = "bare product, float64"


def run(quick: bool) -> list[Table]:
    shapes = [(20, 10, 64)] if quick else [(1_000, 1_000, 768), (1_000, 1_000, 2048)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return [measured(*shape, rounds=1 if quick else 3) for shape in shapes]
    finally:
        torch.set_num_threads(threads)


def measured(images: int, classes: int, width: int, rounds: int) -> Table:
    """All candidates at one width."""
    rng = np.random.default_rng(0)
    x = rng.standard_gamma(1, (images, width), dtype=np.float32)
    medoids = rng.standard_gamma(1, (classes, width), dtype=np.float32)
    candidates = {
        BARE: partial(product, x, medoids),
        "Detour": partial(distances, x, medoids),
        "a loop over medoids, np.linalg.norm": partial(loop, x, medoids),
        "SciPy's cdist": partial(cdist, x, medoids),
        "torch.cdist, float32": partial(by_torch, x, medoids, torch.float32),
        "torch.cdist, float64": partial(by_torch, x, medoids, torch.float64),
    }
    found = timing.side_by_side(candidates, BARE, rounds)
    exact = found["SciPy's cdist"].output
    return Table(
        f"{images:,} images, {classes:,} medoids, width {width:,}",
        [
            timing.row(name, f)
            | ({} if name == BARE else {"error": f"{np.abs(f.output / exact - 1).max():.0e}"})
            for name, f in found.items()
        ],
    )


def product(x: np.ndarray, medoids: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) @ medoids.astype(np.float64).T


def loop(x: np.ndarray, medoids: np.ndarray) -> np.ndarray:
    return np.stack([np.linalg.norm(x - medoid, axis=1) for medoid in medoids], axis=1)


def by_torch(x: np.ndarray, medoids: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    return torch.cdist(torch.from_numpy(x).to(dtype), torch.from_numpy(medoids).to(dtype)).numpy()
