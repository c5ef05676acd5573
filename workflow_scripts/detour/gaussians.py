"""Gaussians: mean of each class and covariance shared by the classes, of one layer or all side by side."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.linalg import eigh

from detour import store
from detour.compute import THREAD, Dask
from detour.errors import InputError
from detour.medoids import class_sizes, classes_by_rows
from detour.store import Made

# Reference activations that a task reads at once: 128 MB in float32.
ENTRIES = 2**25

# Results of tasks that are in memory at once where they are small; each has the square of the width.
RESULTS = 8


def fit(
    references: Sequence[str | Path],
    out: str | Path,
    *,
    layers: Sequence[str],
    joint: bool = False,
    dask: Dask = THREAD,
    made: Made,
) -> None:
    """Store the Gaussians of one layer, or of several side by side (Lee et al. 2018, eq. 1), in float64.

    `mean` [C, N] and `size` int64 [C]; `covariance` [N, N], the mean over all images of
    (f - mu_c)(f - mu_c)^T with the mean of their own class, 0 where it is rounding alone; and `whitening`
    [N, N], see `whitening`. N is the width of the layers together; the attribute `widths` has that of each.

    Where it is `joint`, in place of `whitening`: `unit` [N], `values` [N] and `vectors` [N, N] of
    `correlations`, an eigenvector a row.

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
    width = sum(widths)
    with store.create(out, made, references, **about) as group:
        means: list[np.ndarray] = []
        covariance = np.zeros((width, width))
        at_once = max(1, min(RESULTS, ENTRIES // width**2))
        for of_classes, scatter in dask.results(tasks, f"{', '.join(layers)}: groups of classes", at_once):
            means.append(of_classes)
            covariance += scatter
        covariance /= size.sum()
        mean = np.concatenate(means)
        # The rounding of a mean, which is no variation: over it, the least change would be boundless.
        rounding = size.max() * np.finfo(mean.dtype).eps * np.abs(mean).max(0)
        still = np.diag(covariance) <= rounding**2
        covariance[still] = covariance[:, still] = 0
        store.write(group, [{"mean": mean, "size": size}])
        if joint:
            store.write(group, _rows(covariance=covariance))
            unit, values, vectors = correlations(covariance)
            store.write(group, [{"unit": unit, "values": values}])
            store.write(group, _rows(vectors=vectors.T))
        else:
            store.write(group, _rows(covariance=covariance, whitening=whitening(covariance)))


def _rows(**square: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Blocks of rows: what is written whole is copied once for every chunk."""
    width = len(next(iter(square.values())))
    step = max(1, store.CHUNK_BYTES // (8 * width))
    return ({n: x[i : i + step] for n, x in square.items()} for i in range(0, width, step))


def correlations(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What makes variables one unit each, and the eigenvalues and eigenvectors of their correlations.

    Parameters
    ----------
    covariance : float64 [N, N]
        Symmetric; overwritten, because a copy of the width of all layers is most of a gigabyte.

    Returns
    -------
    unit : float64 [N]
        1 over the deviation; 0 of what never varies, whose correlations are 0.
    values : float64 [N]
    vectors : float64 [N, N]
        In columns.
    """
    deviation = np.sqrt(np.diag(covariance))
    unit = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    # Transposed, it lies in memory as LAPACK wants it, and is worked on in place.
    correlation = covariance.T
    correlation *= unit
    correlation *= unit[:, None]
    values, vectors = eigh(correlation, overwrite_a=True)
    return unit, values, vectors


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
        raise InputError(
            f"{path}: activations at {', '.join(layers)} have values that are not finite, in the classes of"
            f" rows {rows[0].start} to {rows[-1].stop - 1}; is the classifier broken? Check its weights"
        )
    width = x.shape[1]
    means, scatter = np.empty((len(rows), width)), np.zeros((width, width))
    for i, row in enumerate(rows):
        members = x[row.start - rows[0].start : row.stop - rows[0].start].astype(np.float64)
        means[i] = members.mean(0)
        members -= means[i]
        scatter += members.T @ members
    return means, scatter
