"""Gradients: options of the attacks that step along the gradient of the loss."""

from typing import ClassVar, Literal

from pydantic import Field

from detour.options.attacks import CONTROL, Bounded, Iterated, Targeted
from detour.options.base import Count, Nonnegative, Number, Positive, shortest


class FGSM(Bounded, Targeted):
    """Fast gradient sign method: one step of eps towards the target, or away from the true class."""

    method: Literal["fgsm"]

    implementation: ClassVar = "detour.attacks.gradients:fgsm"


class Iterative(Bounded, Iterated, Targeted):
    """Iterated FGSM (basic iterative method), clipped to eps, without a random start."""

    method: Literal["iterative"]
    step: Positive = Field(1, description="size of a step in pixels of 255, at most eps")

    implementation: ClassVar = "detour.attacks.gradients:iterative"


class PGD(Iterated, Targeted):
    """Projected gradient descent (Madry et al.), in L-infinity or L2."""

    method: Literal["pgd"]
    eps: Nonnegative = Field(
        description="budget in pixels of 255: of every pixel, a whole number up to 255, or with `norm: l2` of"
        f" the whole image's change; {CONTROL}"
    )
    norm: Literal["linf", "l2"] = Field(
        "linf", description="norm of the budget and of the steps: `linf` or `l2`"
    )
    step: Positive | None = Field(
        None, description="size of a step in pixels of 255, in the norm, at most eps; null: 2.5 eps / steps"
    )
    random_start: bool = Field(True, description="start at a random point of the ball, drawn for each image")

    implementation: ClassVar = "detour.attacks.gradients:pgd"
    reach: ClassVar = 2.5

    @property
    def budget_norm(self) -> Literal["linf", "l2"]:
        return self.norm

    def problems(self) -> list[tuple[str, str]]:
        found = super().problems()
        if self.norm == "linf" and not (self.eps <= 255 and float(self.eps).is_integer()):
            allowed = "with `norm: linf` a whole number of pixels up to 255"
            found.append(("eps", f"found {shortest(self.eps)} in {self.name!r}, allowed: {allowed}"))
        return found


class MIFGSM(Bounded, Iterated, Targeted):
    """Momentum iterative FGSM (Dong et al.), clipped to eps."""

    method: Literal["mifgsm"]
    steps: Count = Field(10, description="number of steps")
    step: Positive | None = Field(
        None, description="size of a step in pixels of 255, at most eps; null: eps / steps"
    )
    decay: Nonnegative = Field(
        1, description="share of the gradients so far that a step keeps; 0 is `iterative`"
    )

    implementation: ClassVar = "detour.attacks.gradients:mifgsm"
    reach: ClassVar = 1


class SparseL1(Iterated, Targeted):
    """Sparse L1 descent (Tramer and Boneh): few pixels, changed much."""

    method: Literal["sparse_l1"]
    eps: Nonnegative = Field(
        description=f"budget: sum of the absolute changes of an image's values in pixels of 255; {CONTROL}"
    )
    norm: Literal["l1"] = Field("l1", description="norm of the budget")
    step: Positive | None = Field(
        None, description="L1 norm of a step in pixels of 255, at most eps; null: 2.5 eps / steps"
    )
    sparsity: Number = Field(
        99, ge=1, lt=100, description="percentage of an image's values that a step leaves alone"
    )

    implementation: ClassVar = "detour.attacks.gradients:sparse_l1"
    reach: ClassVar = 2.5

    @property
    def budget_norm(self) -> Literal["l1"]:
        return self.norm
