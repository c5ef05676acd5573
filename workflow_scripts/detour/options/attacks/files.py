"""Files: options of adversarial images that were made elsewhere."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from detour.options.attacks import Claimed
from detour.options.base import Text


class Files(Claimed):
    """Adversarial images that another tool made of the test images; their change is measured on the bytes."""

    method: Literal["files"]
    path: Text = Field(
        description="folder of images with the names and the size of the test images (`class/image.png`; as"
        " `snakemake pngs` writes them), or a file of NumPy, `.npy` or `.npz` (`images`, or its only array),"
        " uint8 [n, 3, H, W] or [n, H, W, 3] in their order"
    )

    implementation: ClassVar = "detour.attacks.files:read"

    @property
    def kin(self) -> str:
        # What another tool did is not known.
        return self.family or self.name

    @property
    def files(self) -> str:
        return self.path

    def problems(self) -> list[tuple[str, str]]:
        if not Path(self.path).exists():
            return [("path", f"found {self.path!r}, and there is no such file or folder in {Path.cwd()}")]
        return []
