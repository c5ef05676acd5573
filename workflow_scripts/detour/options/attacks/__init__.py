"""Attacks: what the options of all methods have in common; each family of methods has a module here."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from detour.options.base import (
    ARGUMENTS,
    Arguments,
    Count,
    Method,
    Name,
    Nonnegative,
    Positive,
    Reference,
    shortest,
)
from detour.options.catalogue import found

CONTROL = "0 is a control that changes nothing"


class Attack(Method):
    """One entry of `attacks`; sizes are in pixels of 255."""

    name: Name
    method: str
    family: Name | None = Field(
        None, description="attacks of one family are left out together under `unknown`; null: the method's"
    )

    # Whether it changes images as something harmless does.
    control: ClassVar[bool] = False
    # Whether it starts from reference images, so that its job is told of the dataset.
    from_reference: ClassVar[bool] = False

    @property
    def kin(self) -> str:
        """Its family."""
        return self.family or self.method

    @property
    def files(self) -> str | None:
        """The folder or file of images that it reads."""
        return None

    @property
    def budget(self) -> float | None:
        """Of the change of an image, in its norm; None: any."""
        return None

    @property
    def budget_norm(self) -> Literal["linf", "l2", "l1"]:
        return "linf"

    @property
    def aim(self) -> str | None:
        """`dataset`, `random` or `none`, see `Targeted`; None: the method uses no class."""
        return None

    @property
    def targeted(self) -> bool:
        """Whether a class is aimed at."""
        return self.aim in ("dataset", "random")

    def problems(self) -> list[tuple[str, str]]:
        """Keys, and what is wrong with their values that no type can say."""
        return []


class Targeted(Attack):
    """Aims at a class, or away from the true one."""

    target: Literal["dataset", "random", "none"] = Field(
        "dataset",
        description="class that is aimed at: `dataset`: the one that comes with the image, or is drawn once"
        " where none does; `random`: one drawn per image and attack; `none`: none, away from the true class",
    )

    @property
    def aim(self) -> str:
        return self.target


class Budgeted(Attack):
    """Changes an image by eps at most."""

    eps: Nonnegative

    @property
    def budget(self) -> float:
        return self.eps

    @property
    def radius(self) -> float:
        """The budget in pixels of 1."""
        return self.eps / 255


class Bounded(Budgeted):
    """Changes no pixel by more than eps."""

    eps: int = Field(ge=0, le=255, description=f"L-infinity budget in pixels of 255; {CONTROL}")


class Iterated(Budgeted):
    """Takes steps within its budget."""

    steps: Count = Field(20, description="number of steps")
    step: Positive | None

    # So many budgets go all steps together whose size is not given.
    reach: ClassVar[float]

    @property
    def stride(self) -> float:
        """Size of a step in pixels of 1."""
        return self.step / 255 if self.step else min(1, self.reach / self.steps) * self.radius

    def problems(self) -> list[tuple[str, str]]:
        if 0 < self.eps < (self.step or 0):
            found, allowed = shortest(self.step or 0), shortest(self.eps)
            return [("step", f"found {found} in {self.name!r}, allowed: at most its eps, {allowed}")]
        return []


class Claimed(Targeted):
    """Made by what this project knows nothing of; what it claims is checked on the bytes."""

    eps: Nonnegative | None = Field(
        None, description="budget of an image's change, in pixels of 255, in the norm; null: any"
    )
    norm: Literal["linf", "l2", "l1"] = Field("linf", description="norm of the budget")
    target: Literal["dataset", "random", "none"] = Field(
        "none",
        description="what it is told of classes: that of `dataset` or a `random` one to aim at, or with"
        " `none` the true class",
    )

    @property
    def budget(self) -> float | None:
        return self.eps

    @property
    def budget_norm(self) -> Literal["linf", "l2", "l1"]:
        return self.norm


class Outside(Claimed):
    """An attack from outside: a function of the classifier, the pixels, the classes and the seeds.

    It is called as `function(classifier, x, y, seeds, **options)`, with `x` in [0, 1] [b, 3, H, W], and
    returns what becomes of `x`; it gets `eps` too, in pixels of 1, and `targeted`, if it has arguments of
    these names. What it returns is rounded, and its budget is checked on the bytes.
    """

    method: Reference = Field(description="`file.py:function` or `package.module:function`")
    options: Arguments = Field({}, description=ARGUMENTS)

    implementation: ClassVar = "detour.attacks.outside:perturbed"
    described: ClassVar = "detour.attacks.outside:described"

    @property
    def outside(self) -> str:
        return self.method


METHODS = found(__name__, __path__, Attack)


def attack(entry: dict[str, Any]) -> Attack:
    """The options of an entry that was checked before; what is left out has its default."""
    return METHODS.get(entry["method"], Outside).model_construct(**entry)
