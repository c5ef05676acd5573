"""Searches: options of the attacks that look for the smallest change, or do without gradients."""

from typing import ClassVar, Literal

from pydantic import Field

from detour.options.attacks import Bounded, Targeted
from detour.options.base import Count, Nonnegative, Positive


class CarliniWagner(Targeted):
    """Carlini and Wagner's, L2: the smallest change that it finds, without a budget; slow."""

    method: Literal["carlini_wagner"]
    steps: Count = Field(200, description="steps of Adam in each round of the search")
    searches: int = Field(
        6,
        ge=1,
        le=1000,
        description="rounds of the search for the constant that weighs misclassification against change",
    )
    lr: Positive = Field(0.01, description="rate of Adam, in the space of tanh")
    confidence: Nonnegative = Field(
        0, description="margin of the logits by which the class is to be missed, or hit"
    )

    implementation: ClassVar = "detour.attacks.searches:carlini_wagner"


class SPSA(Bounded, Targeted):
    """SPSA (Uesato et al.): Adam along differences of the logits, without gradients of the model."""

    method: Literal["spsa"]
    steps: Count = Field(20, description="number of steps")
    samples: int = Field(128, ge=1, le=1_000_000, description="pairs of points that each step looks at")
    delta: Positive = Field(2.55, description="how far those points are, in pixels of 255")
    lr: Positive = Field(2.55, description="rate of Adam, in pixels of 255")

    implementation: ClassVar = "detour.attacks.searches:spsa"


class HopSkipJump(Targeted):
    """HopSkipJump (Chen et al.), L2: by decisions alone, from a reference image, without a budget; slow."""

    method: Literal["hop_skip_jump"]
    steps: Count = Field(64, description="number of steps")
    samples: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="points that the first step looks at; step t looks at sqrt(t) times as many",
    )

    implementation: ClassVar = "detour.attacks.searches:hop_skip_jump"
    from_reference: ClassVar = True
