"""Arrays: options of the datasets whose images are in arrays."""

from typing import ClassVar, Literal

from pydantic import Field

from detour.options.base import Text
from detour.options.datasets import Indexed

FORM = (
    "with `images` (uint8, or floats in [0, 1]; [n, H, W, 3], [n, 3, H, W] or grey [n, H, W]), and `labels`"
    " (whole numbers from 0, [n])"
)


class Arrays(Indexed):
    """Two files of arrays, `.npz` of NumPy or groups of Zarr."""

    name: Literal["arrays"]
    reference: Text = Field(
        description=f"file, or folder of Zarr, {FORM}, and, if they have names, `classes`; of the images that"
        " the classifier was trained on"
    )
    test: Text = Field(description="the same of the images that are attacked")

    choosing: ClassVar = Indexed.choosing - {"test"}
    implementation: ClassVar = "detour.datasets.arrays:Arrays"

    @property
    def count(self) -> None:
        """All that there are."""

    def place(self, part: str) -> str:
        return repr(getattr(self, part))
