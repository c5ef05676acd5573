"""Digits: the dataset that comes with scikit-learn."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch.utils.data import TensorDataset

from detour.datasets import Labelled
from detour.drawn import dealt
from detour.options.datasets import digits as options


class Digits(options.Digits):
    """The 1,797 handwritten 8 x 8 digits of scikit-learn, split with equal class shares.

    The split is the same in every run: no seed moves an image that packaged weights were trained on into the
    test, and the test images of a smaller `test` are among those of a larger one.
    """

    decodes: ClassVar = False

    @property
    def class_names(self) -> list[str]:
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
        names = [f"digit {row}" for row in range(len(digits.target))]
        rows = np.sort(dealt(digits.target, names)[part])
        rows = rows[np.argsort(digits.target[rows], kind="stable")]
        if classes is not None:
            rows = rows[np.isin(digits.target[rows], classes)]
        grey = torch.from_numpy(digits.images[rows] * 255 / 16).round().to(torch.uint8)
        pixels = resized(grey[:, None], [self.size, self.size]).expand(-1, 3, -1, -1)
        label = digits.target[rows].astype(np.int64)
        used = [names[row] for row in rows]
        return Labelled(TensorDataset(pixels, torch.from_numpy(label)), label, used)
