"""Controls: genuine images that something harmless changed; each family of changes has a module here."""

from typing import Any, ClassVar

from pydantic import Field

from detour.options.base import ARGUMENTS, Arguments, Method, Name, Reference
from detour.options.catalogue import found


class Control(Method):
    """One entry of `controls`."""

    name: Name
    method: str
    family: Name | None = Field(
        None, description="controls of one family are left out together under `unknown`; null: the method's"
    )

    # The key of which a list is one control at each; empty: there is none.
    strength: ClassVar[str] = ""

    @property
    def kin(self) -> str:
        """Its family."""
        return self.family or self.method


class Outside(Control):
    """A change from outside, as the classes of `torchvision.transforms.v2`: what is made with the options is
    called with an image, uint8 [3, H, W], and returns another of that shape."""

    method: Reference = Field(
        description="`file.py:name` or `package.module:name`, as `torchvision.transforms.v2:RandomPosterize`"
    )
    options: Arguments = Field({}, description=ARGUMENTS)

    implementation: ClassVar = "detour.controls.outside:changed"
    described: ClassVar = "detour.controls.outside:described"

    @property
    def outside(self) -> str:
        return self.method


METHODS = found(__name__, __path__, Control)


def control(entry: dict[str, Any]) -> Control:
    """The options of an entry that was checked before; what is left out has its default."""
    return METHODS.get(entry["method"], Outside).model_construct(**entry)
