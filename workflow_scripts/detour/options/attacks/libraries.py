"""Libraries: options of attacks that are those of another library, which is an extra of this project."""

from typing import ClassVar, Literal

from pydantic import Field

from detour.options.attacks import Claimed
from detour.options.base import ARGUMENTS, Arguments, Text

NAMED = "name of the class, as in the library's documentation"


class Library(Claimed):
    """What comes back is rounded, and its budget is checked on the bytes."""

    attack: Text = Field(description=NAMED)
    options: Arguments = Field({}, description=f"{ARGUMENTS}, sizes as the library has them")

    described: ClassVar = "detour.attacks.libraries:described"
    # Where its attacks are.
    package: ClassVar[str]

    @property
    def kin(self) -> str:
        return self.family or self.attack

    @property
    def outside(self) -> str:
        return f"{self.package}:{self.attack}"


class Torchattacks(Library):
    """An attack of torchattacks."""

    method: Literal["torchattacks"]

    implementation: ClassVar = "detour.attacks.libraries:torchattacks"
    package: ClassVar = "torchattacks"


class Foolbox(Library):
    """An attack of foolbox."""

    method: Literal["foolbox"]

    implementation: ClassVar = "detour.attacks.libraries:foolbox"
    package: ClassVar = "foolbox.attacks"


class ART(Library):
    """An evasion attack of IBM's Adversarial Robustness Toolbox."""

    method: Literal["art"]

    implementation: ClassVar = "detour.attacks.libraries:art"
    package: ClassVar = "art.attacks.evasion"


class AutoAttack(Library):
    """AutoAttack (Croce and Hein 2020), as torchattacks has it."""

    method: Literal["autoattack"]
    attack: Literal["AutoAttack"] = Field("AutoAttack", description="its class in torchattacks")
    target: Literal["none"] = Field(
        "none", description="it aims at every class itself, away from the true one"
    )

    implementation: ClassVar = "detour.attacks.libraries:torchattacks"
    package: ClassVar = "torchattacks"
