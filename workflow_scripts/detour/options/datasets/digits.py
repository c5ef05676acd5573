"""Digits: options of the dataset that comes with scikit-learn."""

from typing import ClassVar, Literal

from pydantic import Field

from detour.options.datasets import Dataset, Shards

# Class sizes of scikit-learn's load_digits, which never change: 1,797 images, the rarest class has 174.
COUNT, RAREST = 1797, 174


class Digits(Dataset):
    """The 1,797 handwritten digits of scikit-learn; needs no download."""

    name: Literal["digits"]
    test: int = Field(
        500,
        ge=10,
        le=COUNT - 10,
        description="number of test images, the same in every run; the others are the reference",
    )
    size: int = Field(32, ge=8, le=512, description="side in pixels that the 8 x 8 digits are resized to")
    shards: Shards = 2

    implementation: ClassVar = "detour.datasets.digits:Digits"
    side: ClassVar = "size"

    @property
    def classes(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def test_counts(self) -> dict[str, int]:
        # The split keeps the classes' shares, so the rarest digit has the fewest test images.
        rarest = self.test * RAREST // COUNT
        return {"digits": rarest, "other digits": self.test - rarest}

    def reference_count(self, enough: int) -> int:
        return COUNT - self.test
