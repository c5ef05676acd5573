"""Images: batches of what a dataset has, and the test images, stored as the bytes that are attacked."""

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from detour import folders, store
from detour.datasets import Known, Labelled
from detour.errors import InputError
from detour.logs import progress
from detour.seeds import draw, key
from detour.spelling import shown
from detour.store import Made

logger = logging.getLogger(__name__)

# Free shared memory that a worker is to have: some batches of 64 of ImageNet's images, 10 MB each.
SHARED = 100 * 10**6

# Images decoded at once; no result depends on it.
BATCH = 64


def shard(dataset: Known, number: int, count: int) -> Labelled:
    """The reference images of one of `count` runs of whole classes, in the order of the classes.

    Parameters
    ----------
    number
        Of the shard, from 0.
    """
    return dataset.reference_images(folders.shards(len(dataset.classes), count)[number])


def batches(
    images: Labelled, batch_size: int, workers: int, what: str, *,
    skipped: list[str] | None = None, turned: list[str] | None = None, pinned: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """Batches of uint8 [b, 3, H, W] and labels [b], decoded ahead of their use.

    Parameters
    ----------
    workers
        Processes that decode; 0 for images that are in memory.
    what
        What is done with them, for the log.
    skipped
        Is told of images that cannot be decoded, which are left out; None: they are an error.
    turned
        Is told of images that ask to be turned, which is not done.
    pinned
        Into memory that a GPU reads on its own.

    Raises
    ------
    ValueError
        If an image cannot be decoded, or of `skipped` none of a class.
    """
    loader = DataLoader(
        images.images,
        batch_size,
        num_workers=workers,
        # Forked: a started interpreter would run the job's script again, which no `__main__` guards.
        multiprocessing_context="fork" if workers else None,
        pin_memory=pinned,
        **loaders(workers),
    )
    wrong: list[str] = []
    asking: list[str] = []
    lost = set(images.label.tolist())
    for batch, problems, asked in progress(loader, len(loader), f"{what}: batches of {batch_size}"):
        if problems and skipped is None:
            raise InputError(f"{problems[0]}; replace or remove it")
        for problem in problems:
            logger.info("left out: %s", problem)
        wrong += problems
        asking += asked
        if batch:
            lost -= set(batch[1].tolist())
            x, label = (torch.as_tensor(part) for part in batch)
            yield x, label
    if lost:
        first = shown(images.names[images.label.tolist().index(min(lost))])
        raise InputError(
            f"{what}: in {len(lost)} classes, one of them that of {first}, found no image that can be"
            f" decoded, expected at least one each; replace them or remove the classes. The first: {wrong[0]}"
        )
    if wrong and skipped is not None:
        logger.warning(
            "%s: left out %d of %d images that cannot be decoded, which the log names; the first: %s",
            what, len(wrong), len(images.label), wrong[0],
        )  # fmt: skip
        skipped += wrong
    if asking:
        logger.warning("%s: %s", what, folders.orientation_note(asking))
        if turned is not None:
            turned += asking


def loaders(workers: int) -> dict[str, Any]:
    """How workers pass batches on: through shared memory, or through pipes where there is too little of it.

    Docker gives a container 64 MB; a batch that finds no room would kill its worker.
    """
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        # Elsewhere shared memory is no file system.
        return {"collate_fn": collated}
    if not workers or free >= workers * SHARED:
        return {"collate_fn": collated}
    logger.info("/dev/shm has %d MB free: the workers pass images on through pipes", free // 10**6)
    return {"collate_fn": partial(collated, stacked=_arrays)}


def collated(
    items: list[Any], stacked: Callable[[list[Any]], Any] = default_collate
) -> tuple[Any, list[str], list[str]]:
    """Items of `Labelled.images` as a batch, or None; what is wrong with others; which ask to be turned."""
    good = [item for item in items if not isinstance(item, str)]
    turned = [name for _, _, *names in good for name in names if name]
    problems = [item for item in items if isinstance(item, str)]
    return stacked([item[:2] for item in good]) if good else None, problems, turned


def _arrays(pairs: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """A batch as arrays, which are sent whole: torch stacks a worker's tensors in shared memory."""
    pixels, label = zip(*pairs, strict=True)
    return np.stack([image.numpy() for image in pixels]), np.array(label)


def targets(labels: np.ndarray, classes: int, seed: int, purpose: str, keys: np.ndarray) -> np.ndarray:
    """A class other than the true one for each image.

    Parameters
    ----------
    labels, keys : int64 [n]
        The true classes, and the numbers that the images' draws depend on.

    Returns
    -------
    int64 [n]
    """
    steps = [draw(seed, purpose, image).integers(1, classes) for image in keys.tolist()]
    return (labels + np.array(steps, dtype=np.int64)) % classes


def collect(dataset: Known, out: str | Path, *, seed: int, workers: int, made: Made) -> None:
    """Store the test images: images uint8 [n, 3, H, W]; label, target, source, key and copy_of int64 [n].

    Parameters
    ----------
    seed
        Of the targets, which are drawn here once where the dataset has none.

    Notes
    -----
    The attribute `names` says which image a row, or a `source`, is. `key` is what the draws of an image
    depend on; `copy_of` is the first row with the same pixels.
    """
    images, classes = dataset.test_images(), dataset.class_names
    label, keys = images.label, np.array([key(name) for name in images.names], dtype=np.int64)
    target = targets(label, len(classes), seed, "target", keys) if images.target is None else images.target
    source = np.arange(len(label))
    names = [shown(name) for name in images.names]
    turned: list[str] = []
    first: dict[bytes, int] = {}
    copies: list[str] = []

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        start = 0
        for x, _ in batches(images, BATCH, workers if dataset.decodes else 0, "test images", turned=turned):
            rows = slice(start, start + len(x))
            digests = [hashlib.blake2b(image.tobytes()).digest() for image in x.numpy()]
            copy_of = [first.setdefault(digest, start + i) for i, digest in enumerate(digests)]
            copies.extend(f"{names[i]} = {names[j]}" for i, j in enumerate(copy_of, start) if i != j)
            start += len(x)
            yield {
                "images": x.numpy(),
                "label": label[rows],
                "target": target[rows],
                "source": source[rows],
                "key": keys[rows],
                "copy_of": np.array(copy_of, dtype=np.int64),
            }

    with store.create(out, made, classes=[shown(name) for name in classes], names=names) as group:
        store.write(group, blocks())
        group.attrs["turned"], group.attrs["copies"] = turned, copies
    if copies:
        logger.warning("test images: %s", folders.copies_note(copies))
