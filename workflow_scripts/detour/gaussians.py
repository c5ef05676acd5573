"""Gaussians: mean of each class and covariance shared by the classes, of one layer or all side by side."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.linalg import eigh

from detour import store
from detour.compute import THREAD, Dask
from detour.medoids import class_sizes, classes_by_rows
from detour.store import Made

# Reference activations that a task reads at once: 128 MB in float32.
ENTRIES = 2**25


def fit(
    references: Sequence[str | Path],
    out: str | Path,
    *,
    layers: Sequence[str],
    dask: Dask = THREAD,
    made: Made,
) -> None:
    """Store the Gaussians of one layer, or of several side by side (Lee et al. 2018, eq. 1), in float64.

    `mean` [C, N] and `size` int64 [C]; `covariance` [N, N], the mean over all images of
    (f - mu_c)(f - mu_c)^T with the mean of their own class, and `whitening` [N, N], see `whitening`. N is the
    width of the layers together; the attribute `widths` has that of each.

    Parameters
    ----------
    references
        Stores of the reference activations, of whole classes each, in the order of their classes.
    dask
        What works on groups of classes.

    Raises
    ------
    ValueError
        If a class has no reference image, or a value is not finite.
    """
    size = class_sizes(references)
    tasks = []
    for path in references:
        shard = store.read(path)
        widths = [shard[layer].shape[1] for layer in layers]
        step = max(1, ENTRIES // sum(widths))
        for rows in classes_by_rows(shard["label"][:], step):
            tasks.append(partial(_moments, Path(path).absolute(), list(layers), rows))
    about = {"layer": ", ".join(layers), "layers": list(layers), "widths": widths}
    with store.create(out, made, references, **about) as group:
        means: list[np.ndarray] = []
        total = np.zeros(())
        for of_classes, scatter in dask.results(tasks, f"{', '.join(layers)}: groups of classes"):
            means.append(of_classes)
            total = total + scatter
        covariance = total / size.sum()
        store.write(group, [{"mean": np.concatenate(means), "size": size}])
        store.write(group, [{"covariance": covariance, "whitening": whitening(covariance)}])


def whitening(covariance: np.ndarray) -> np.ndarray:
    """W with W W^T the pseudo-inverse of a covariance, so that |d W| is the Mahalanobis length of d.

    Directions in which nothing varies, by the criterion of `scipy.linalg.pinvh`, are left out.

    Parameters
    ----------
    covariance : float64 [N, N]

    Returns
    -------
    float64 [N, N]
        The number of its nonzero columns is the rank of the covariance.
    """
    values, vectors = eigh(covariance)
    kept = values > len(values) * np.finfo(values.dtype).eps * np.abs(values).max()
    return vectors * np.where(kept, 1 / np.sqrt(np.where(kept, values, 1)), 0)


def _moments(path: Path, layers: list[str], rows: list[slice]) -> tuple[np.ndarray, np.ndarray]:
    """Means [c, N] and summed scatter [N, N] of consecutive classes of a shard."""
    shard = store.read(path)
    x = np.concatenate([shard[layer][rows[0].start : rows[-1].stop] for layer in layers], axis=1)
    if not np.isfinite(x).all():
        raise ValueError("activations have values that are not finite; is the classifier broken?")
    width = x.shape[1]
    means, scatter = np.empty((len(rows), width)), np.zeros((width, width))
    for i, row in enumerate(rows):
        members = x[row.start - rows[0].start : row.stop - rows[0].start].astype(np.float64)
        means[i] = members.mean(0)
        members -= means[i]
        scatter += members.T @ members
    return means, scatter
