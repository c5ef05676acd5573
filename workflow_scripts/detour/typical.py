"""Typical: what genuine images of each class are like, by which a bundle explains what is said of others."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from detour import images, store
from detour.datasets import Known
from detour.detectors.versions import Run, Versions
from detour.distances import distances
from detour.medoids import classes_by_rows
from detour.spelling import shown
from detour.store import ORIGINAL

# Reference images of each class that a bundle shows, and how large.
EXAMPLES, SIDE = 20, 64

# Entries of their activations, which bounds a bundle of many classes: 8 MB in float32, or one image a class.
ENTRIES = 2**21

# Before the names of what a detector reads of images whose pixels were changed, and of the median images.
SQUEEZED, PREPROCESSED, MEDIAN = "squeezed/", "preprocessed/", "median/"


def further(
    squeezers: Mapping[str, int], step: float,
    squeezed: Callable[[str, int], np.ndarray], preprocessed: Callable[[float], np.ndarray],
) -> dict[str, np.ndarray]:  # fmt: skip
    """What a detector reads of images beside their activations, if it looks at them again.

    Parameters
    ----------
    squeezers, step
        As it asks for, see `detour.options.detectors.Detector`.
    squeezed, preprocessed
        What gives it, as the methods of `detour.detectors.versions.Versions`.

    Returns
    -------
    dict
        `squeezed/SQUEEZER` float32 [m, C], and `preprocessed/MAGNITUDE` float64 [m, L].
    """
    found = {f"{SQUEEZED}{name}-{by}": squeezed(name, by) for name, by in squeezers.items()}
    if step:
        found[f"{PREPROCESSED}{step:g}"] = preprocessed(step)
    return found


def genuine(
    activations: str | Path, medoids: Sequence[str | Path], squeezers: Mapping[str, int], step: float,
    squeezed: Sequence[str | Path] = (), preprocessed: Sequence[str | Path] = (),
) -> dict[str, np.ndarray]:  # fmt: skip
    """The paths of the test images that are classified right, and of each class the image in their middle.

    Of all test images, if none is classified right.

    Parameters
    ----------
    activations
        The store of the original test images.
    medoids
        Stores by layer.
    squeezers, step
        As the detector asks for.
    squeezed, preprocessed
        The store of the original test images, where the detector reads it.

    Returns
    -------
    dict
        `class` int64 [n]; `path` float32 [n, L], the L2 distances to the medoid of that class; and of each
        class's median image `median/LAYER` float32 [C, N_l], `median/logits` float32 [C, C], and what else
        the detector reads, see `further`. Of a class without images, those of the median image of all.
    """
    group = store.read(activations)
    predicted = group["predicted"][:]
    right = predicted == group["label"][:]
    rows = np.flatnonzero(right if right.any() else np.ones_like(right))
    c = predicted[rows]
    layers = [store.read(path) for path in medoids]
    path = np.empty((len(rows), len(layers)), np.float32)
    for at, of_layer in enumerate(layers):
        x = group[of_layer.attrs["layer"]][:][rows]
        for one in np.unique(c):
            path[c == one, at] = distances(x[c == one], of_layer["medoid"][one : one + 1])[:, 0]
    every = np.arange(len(rows))
    of_classes = [np.flatnonzero(c == one) for one in range(group["logits"].shape[1])]
    middle = rows[[_middle(path, of_class if len(of_class) else every) for of_class in of_classes]]
    names = [*(of_layer.attrs["layer"] for of_layer in layers), "logits"]
    stores = Run.of(activations=[activations], squeezed=squeezed, preprocessed=preprocessed)
    medians = Versions(stores, middle, [ORIGINAL])
    found = {name: group[name][:][middle] for name in names}
    found |= further(squeezers, step, medians.squeezed, medians.preprocessed)
    return {"class": c, "path": path} | {f"{MEDIAN}{name}": x for name, x in found.items()}


def _middle(path: np.ndarray, rows: np.ndarray) -> int:
    """Of these rows the one whose path has the median length, in units of the median at each layer."""
    unit = np.median(path[rows], axis=0)
    length = (path[rows] / np.where(unit > 0, unit, 1)).sum(1)
    return int(rows[np.argsort(length, kind="stable")[(len(rows) - 1) // 2]])


def examples(
    references: Sequence[str | Path], medoids: Sequence[str | Path], dataset: Known
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Of each class the reference images that are nearest to its medoid at the last layer.

    Parameters
    ----------
    references
        Stores of the reference activations.
    medoids
        Stores by layer.

    Returns
    -------
    dict
        `label` int64 [M], `activations/LAYER` float32 [M, N_l] and `image` uint8 [M, 3, S, S], black where an
        image is not at hand.
    list of str
        Names of the images, "" where one is not at hand.
    """
    of_layers = [store.read(path) for path in medoids]
    medoid, last = of_layers[-1]["medoid"][:], of_layers[-1].attrs["layer"]
    layers = [of_layer.attrs["layer"] for of_layer in of_layers]
    widths = sum(of_layer["medoid"].shape[1] for of_layer in of_layers)
    count = max(1, min(EXAMPLES, ENTRIES // (widths * len(medoid))))
    parts: list[dict[str, np.ndarray]] = []
    pictures: list[Tensor | None] = []
    names: list[str] = []
    for number, path in enumerate(references):
        shard = store.read(path)
        label = shard["label"][:]
        found = []
        for group in classes_by_rows(label, shard[last].chunks[0]):
            x = shard[last][group[0].start : group[-1].stop]
            for rows in group:
                c, first = label[rows.start], rows.start - group[0].start
                far = distances(x[first : first + rows.stop - rows.start], medoid[c : c + 1])[:, 0]
                found.append(rows.start + np.sort(np.argsort(far, kind="stable")[:count]))
        chosen = np.concatenate(found)
        activations = {f"activations/{layer}": shard[layer].oindex[chosen] for layer in layers}
        parts.append({"label": label[chosen]} | activations)
        named, seen = _pictures(dataset, label, chosen, number, len(references))
        names += named
        pictures += seen
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    side = max((picture.shape[1] for picture in pictures if picture is not None), default=1)
    black = np.zeros((3, side, side), np.uint8)
    small = [black if picture is None else picture.numpy() for picture in pictures]
    return arrays | {"image": np.stack(small)}, names


def _pictures(
    dataset: Known, label: np.ndarray, rows: np.ndarray, number: int, count: int
) -> tuple[list[str], list[Tensor | None]]:
    """Names and small pictures of some images of a shard, "" and None where they are not at hand."""
    held = images.shard(dataset, number, count)
    # Images that could not be decoded were left out of the activations, so that the others' rows are unknown.
    if not np.array_equal(held.label, label):
        return [""] * len(rows), [None] * len(rows)
    # Not above: it takes seconds, and whoever reads a bundle needs none of it.
    from detour.pixels import fitted

    names, pictures = [], []
    for row in rows:
        # Of one that cannot be decoded, what is wrong with it.
        picture = None if isinstance(read := held.images[int(row)], str) else read[0]
        side = 0 if picture is None else min(SIDE, *picture.shape[1:])
        names.append("" if picture is None else shown(held.names[row]))
        pictures.append(None if picture is None else fitted(picture, side, side))
    return names, pictures
