"""Images: the reference, read where it lies, and the test images, stored as the bytes that are attacked."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader
from torchvision.transforms import v2

from detour import folders, store
from detour.logs import progress
from detour.seeds import draw
from detour.store import Made


class Labelled(NamedTuple):
    """Images with their classes, which cost no decoding.

    Attributes
    ----------
    images
        Pairs of uint8 [3, H, W] and class.
    label : int64 [n]
        The classes.
    names
        What a person knows the images by: paths under their folder.
    """

    images: Dataset[Any]
    label: np.ndarray
    names: list[str]


@dataclass(frozen=True)
class Digits:
    """The 1,797 handwritten 8 x 8 digits of scikit-learn, split at random with equal class shares.

    Parameters
    ----------
    test
        Number of test images; the others are the reference.
    size
        Side in pixels they are resized to.
    seed
        Of the split.
    """

    test: int
    size: int
    seed: int

    decodes: ClassVar = False

    @property
    def classes(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def test_images(self) -> Labelled:
        return self._part(1)

    def reference_images(self) -> Labelled:
        return self._part(0)

    def _part(self, part: int) -> Labelled:
        # Imported here: two seconds that only this dataset has to pay.
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        rows = train_test_split(
            np.arange(len(digits.target)),
            test_size=self.test,
            stratify=digits.target,
            random_state=self.seed,
        )[part]
        rows = rows[np.argsort(digits.target[rows], kind="stable")]
        grey = torch.from_numpy(digits.images[rows] * 255 / 16).round().to(torch.uint8)
        pixels = v2.functional.resize(grey[:, None], [self.size, self.size]).expand(-1, 3, -1, -1)
        label = digits.target[rows].astype(np.int64)
        names = [f"digit {row}" for row in rows]
        return Labelled(TensorDataset(pixels, torch.from_numpy(label)), label, names)


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
    """

    reference: str
    test: str = ""
    resize: int | None = None
    crop: int

    decodes: ClassVar = True

    @property
    def classes(self) -> list[str]:
        return folders.classes(self.reference)

    def test_images(self) -> Labelled:
        return self._part(self.test)

    def reference_images(self) -> Labelled:
        return self._part(self.reference)

    def _part(self, root: str) -> Labelled:
        transform = v2.Compose(
            [v2.Resize(self.resize or self.crop), v2.CenterCrop(self.crop), v2.PILToTensor()]
        )
        folder = _Folder(root, self.classes, transform)
        names = [str(Path(path).relative_to(root)) for path, _ in folder.samples]
        return Labelled(folder, np.asarray(folder.targets, dtype=np.int64), names)


class _Folder(ImageFolder):
    """ImageFolder whose classes are given, because a test folder may lack some."""

    def __init__(self, root: str, classes: list[str], transform: v2.Transform) -> None:
        self._classes = classes
        super().__init__(root, transform, loader=_decode, allow_empty=True)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        return self._classes, {name: i for i, name in enumerate(self._classes)}


def _decode(path: str) -> Image.Image:
    try:
        return default_loader(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be decoded ({error}); replace or remove it") from error


# A new dataset is one class and one line here, its options in the schema, and its checks in `detour.config`.
DATASETS: dict[str, type[Digits] | type[Folder]] = {"digits": Digits, "image_folder": Folder}

# Images decoded at once; no result depends on it.
BATCH = 64


def dataset(name: str, **settings: Any) -> Digits | Folder:
    """The dataset of that section of the configuration."""
    return DATASETS[name](**settings)


def shard(images: Labelled, classes: int, number: int, count: int) -> Labelled:
    """The images of one of `count` runs of whole classes, in the order of the classes.

    Parameters
    ----------
    classes
        Number of classes.
    number
        Of the shard, from 0.
    """
    wanted = np.array_split(np.arange(classes), count)[number]
    rows = np.flatnonzero(np.isin(images.label, wanted))
    rows = rows[np.argsort(images.label[rows], kind="stable")]
    names = [images.names[row] for row in rows]
    return Labelled(Subset(images.images, rows.tolist()), images.label[rows], names)


def batches(images: Labelled, batch_size: int, workers: int, what: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of uint8 [b, 3, H, W] and labels [b], decoded ahead of their use.

    Parameters
    ----------
    workers
        Processes that decode; 0 for images that are in memory.
    what
        What is done with them, for the log.
    """
    # Forked: a started interpreter would run the job's script again, which no `__main__` guards.
    context = "fork" if workers else None
    loader = DataLoader(images.images, batch_size, num_workers=workers, multiprocessing_context=context)
    yield from progress(loader, len(loader), f"{what}: batches of {batch_size}")


def targets(labels: np.ndarray, classes: int, seed: int, purpose: str) -> np.ndarray:
    """A class other than the true one for each image.

    Returns
    -------
    int64 [n]
    """
    steps = [draw(seed, purpose, i).integers(1, classes) for i in range(len(labels))]
    return (labels + np.array(steps, dtype=np.int64)) % classes


def collect(dataset: Digits | Folder, out: str | Path, *, seed: int, workers: int, made: Made) -> None:
    """Store the test images: images uint8 [n, 3, H, W], label, target and source int64 [n].

    Parameters
    ----------
    seed
        Of the targets, which are drawn here once.

    Notes
    -----
    The attribute `names` says which image a row, or a `source`, is.
    """
    images, classes = dataset.test_images(), dataset.classes
    label = images.label
    target = targets(label, len(classes), seed, "target")
    source = np.arange(len(label))

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        start = 0
        for x, _ in batches(images, BATCH, workers if dataset.decodes else 0, "test images"):
            rows = slice(start, start := start + len(x))
            yield {
                "images": x.numpy(),
                "label": label[rows],
                "target": target[rows],
                "source": source[rows],
            }

    with store.create(out, made, classes=classes, names=images.names) as group:
        store.write(group, blocks())
