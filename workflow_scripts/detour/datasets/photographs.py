"""Photographs: datasets whose images are files, decoded where they lie."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from detour import folders
from detour.datasets import Labelled
from detour.errors import InputError
from detour.options.datasets import photographs as options
from detour.spelling import listed, shown


class Folders(options.Photographs):
    """A folder of reference images for each class.

    Parameters
    ----------
    seed
        Of the images that are drawn, where there are more of a class than `per_class`.
    """

    seed: int = 0

    decodes: ClassVar = True

    @property
    def class_names(self) -> list[str]:
        return self.classes

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


class ImageFolder(Folders, options.ImageFolder):
    """Test images in the same layout as the reference."""

    def test_images(self) -> Labelled:
        return self._part(self.test, range(len(self.classes)))


class Csv(Folders, options.Csv):
    """Images of the classes that lists give them."""

    def test_images(self) -> Labelled:
        return self._listed("test", range(len(self.classes)))

    def reference_images(self, classes: Sequence[int] | None = None) -> Labelled:
        """Those of some classes, in their order; None: of all."""
        return self._listed("reference", range(len(self.classes)) if classes is None else classes)

    def _listed(self, part: str, classes: Sequence[int]) -> Labelled:
        of_class = list(self.listed(part, self.seed).values())
        names = [name for c in classes for name in of_class[c]]
        label = [c for c in classes for _ in of_class[c]]
        return _labelled(_Files(str(self.folder(part)), names, label, self.fit))


class Nips2017(Folders, options.Nips2017):
    """Test images by their list, which has targets."""

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
