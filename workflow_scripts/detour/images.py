"""Images: the reference, read where it lies, and the test images, stored as the bytes that are attacked."""

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from detour import folders, store
from detour.errors import InputError
from detour.logs import progress
from detour.seeds import draw, key
from detour.spelling import listed, shown
from detour.store import Made

logger = logging.getLogger(__name__)


class Labelled(NamedTuple):
    """Images, decoded on access; labels are available without decoding.

    Attributes
    ----------
    images
        uint8 [3, H, W] and class, and of files the name of one that asks to be turned, otherwise nothing; in
        place of one that cannot be decoded, what is wrong with it.
    label : int64 [n]
        The classes.
    names
        What a person knows the images by: paths under their folder.
    target : int64 [n], optional
        Classes to aim at, where the data set gives them.
    """

    images: Dataset[Any]
    label: np.ndarray
    names: list[str]
    target: np.ndarray | None = None


@dataclass(frozen=True)
class Digits:
    """The 1,797 handwritten 8 x 8 digits of scikit-learn, split with equal class shares.

    The split is the same in every run: no seed moves an image that packaged weights were trained on into the
    test, and the test images of a smaller `test` are among those of a larger one.

    Parameters
    ----------
    test
        Number of test images; the others are the reference.
    size
        Side in pixels they are resized to.
    """

    test: int
    size: int

    decodes: ClassVar = False

    @property
    def classes(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    @property
    def class_names(self) -> list[str]:
        """What figures call the classes."""
        return self.classes

    def test_images(self) -> Labelled:
        return self._part(slice(self.test))

    def reference_images(self, classes: Sequence[int] | None = None) -> Labelled:
        """Those of some classes, in their order; None: of all."""
        return self._part(slice(self.test, None), classes)

    def _part(self, part: slice, classes: Sequence[int] | None = None) -> Labelled:
        # Imported here: seconds that only this dataset, and only a job that reads images, has to pay.
        from sklearn.datasets import load_digits

        from detour.pixels import resized

        digits = load_digits()
        rows = np.sort(_dealt(digits.target)[part])
        rows = rows[np.argsort(digits.target[rows], kind="stable")]
        if classes is not None:
            rows = rows[np.isin(digits.target[rows], classes)]
        grey = torch.from_numpy(digits.images[rows] * 255 / 16).round().to(torch.uint8)
        pixels = resized(grey[:, None], [self.size, self.size]).expand(-1, 3, -1, -1)
        label = digits.target[rows].astype(np.int64)
        names = [f"digit {row}" for row in rows]
        return Labelled(TensorDataset(pixels, torch.from_numpy(label)), label, names)


def _dealt(label: np.ndarray) -> np.ndarray:
    """Rows in an order whose every beginning has the classes in their shares.

    Ordered by a hash: the draws of a random generator can change with a version of its library.
    """
    hashed = sorted(range(len(label)), key=lambda row: hashlib.sha256(f"digit {row}".encode()).digest())
    # The j-th of n images of a class stands where j / n of the whole are dealt.
    place = np.empty(len(label))
    for c in np.unique(label):
        rows = [row for row in hashed if label[row] == c]
        place[rows] = np.arange(1, len(rows) + 1) / len(rows)
    return np.argsort(place, kind="stable")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Two folders in the layout of torchvision's ImageFolder, `class/image`.

    Parameters
    ----------
    reference, test
        The folders; the classes are the sorted names of the reference's folders. Jobs that do not read the
        test images are not told where they are.
    resize
        Length in pixels of the shorter side before the crop; None: that of the crop.
    crop
        Side in pixels of the square cut from the centre.
    per_class, seed
        Of more reference images of a class than `per_class`, so many are drawn; None: all are taken.
    content
        Content digests of the images (`detour.manifest`), recorded as provenance.
    """

    reference: str
    test: str = ""
    resize: int | None = None
    crop: int
    per_class: int | None = None
    seed: int = 0
    content: str | list[str] = ""

    decodes: ClassVar = True

    @property
    def classes(self) -> list[str]:
        return folders.classes(self.reference)

    @property
    def class_names(self) -> list[str]:
        """What figures call the classes."""
        return self.classes

    def test_images(self) -> Labelled:
        return self._part(self.test, range(len(self.classes)))

    def reference_images(self, classes: Sequence[int] | None = None) -> Labelled:
        """Those of some classes, in their order; None: of all."""
        # List only the wanted class folders: listing all of ImageNet takes longer than reading one shard.
        wanted = range(len(self.classes)) if classes is None else classes
        return self._part(self.reference, wanted, self.per_class)

    def _part(self, root: str, classes: Sequence[int], at_most: int | None = None) -> Labelled:
        known = self.classes
        names: list[str] = []
        label: list[int] = []
        for c in classes:
            folder = Path(root, known[c])
            found = folders.taken(folder, at_most, self.seed)
            names += [f"{folder.name}/{name}" for name in found]
            label += [c] * len(found)
        return _labelled(_Files(root, names, label, self.fit))

    def fit(self, image: Tensor) -> Tensor:
        """Resized and cropped; within one level of 255 of torchvision's reference transform of PIL images.

        That resizes by Pillow, which takes as long as decoding; benchmarks/ has the measurement.
        """
        from detour.pixels import fitted

        return fitted(image, self.resize or self.crop, self.crop)


@dataclass(frozen=True, kw_only=True)
class Nips2017(Folder):
    """The images of the NIPS 2017 adversarial competition, which have targets; the reference as in `Folder`.

    Parameters
    ----------
    test
        Folder of `<ImageId>.png`, which are taken as they are: `crop` says their size.
    labels
        Their list; see `detour.folders.nips2017`.
    missing
        `error`, or `skip` what the list names and the folder lacks.
    """

    labels: str | None = None
    missing: str = "error"

    @property
    def class_names(self) -> list[str]:
        """ImageNet's in words, as its folders have numbers; of fewer classes, their folders'."""
        from torchvision.models import ResNet18_Weights

        words = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
        return words if len(words) == len(self.classes) else self.classes

    def test_images(self) -> Labelled:
        images, missing = folders.nips2017(self.test, self.labels)
        if missing and self.missing == "error":
            raise InputError(f"{self.test}: lacks {len(missing)} images of its list: {listed(missing)}")
        names, label, target = (list(column) for column in zip(*images, strict=True))
        return _labelled(_Files(self.test, names, label, self._whole), np.array(target, dtype=np.int64))

    def _whole(self, image: Tensor) -> Tensor:
        h, w = image.shape[1:]
        if (h, w) != (self.crop, self.crop):
            raise InputError(f"found {w} x {h} pixels, expected {self.crop} x {self.crop} (dataset.crop)")
        return image


Known = Digits | Folder


class _Files(Dataset[Any]):
    """Image files, decoded and fitted when asked for."""

    def __init__(
        self, root: str, names: list[str], label: list[int], fit: Callable[[Tensor], Tensor]
    ) -> None:
        # Imported before workers are forked, so that each has it already.
        from detour.pixels import with_orientation

        self.root, self.names, self.label, self.fit, self.decoded = root, names, label, fit, with_orientation

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> tuple[Tensor, int, str] | str:
        path = Path(self.root, self.names[i])
        try:
            # A file server that fails is an OSError, and no reason to skip an image.
            content = folders.content(path)
        except ValueError as error:
            return str(error)
        try:
            pixels, turned = self.decoded(content)
            return self.fit(pixels), self.label[i], shown(self.names[i]) if turned else ""
        except ValueError as error:
            return f"{shown(str(path))}: {error}"


def _labelled(files: _Files, target: np.ndarray | None = None) -> Labelled:
    return Labelled(files, np.array(files.label, dtype=np.int64), files.names, target)


# A new dataset is one class and one line here, its options in the schema, and its checks in `detour.config`.
DATASETS: dict[str, type[Known]] = {"digits": Digits, "image_folder": Folder, "nips2017": Nips2017}

# Free shared memory that a worker is to have: some batches of 64 of ImageNet's images, 10 MB each.
SHARED = 100 * 10**6

# Images decoded at once; no result depends on it.
BATCH = 64


def dataset(name: str, **settings: Any) -> Known:
    """The dataset of that section of the configuration."""
    return DATASETS[name](**settings)


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
