"""Weights that are part of this project, and what they hold for. Nothing heavy: every job reads this."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Weights:
    """The weights of one network, in a file beside this one.

    Parameters
    ----------
    file
        In the format of safetensors.
    sha256
        Of the file.
    classes
        Number of logits.
    held_out
        Test images that the training did not see: a run may test on so many at most.
    requires
        What else a configuration must say, by section and key, for these weights to fit.
    """

    file: str
    sha256: str
    classes: int
    held_out: int
    requires: dict[str, dict[str, Any]]

    @property
    def path(self) -> Path:
        return Path(__file__).with_name(self.file)


# By the name of the network and that of the weights, as in `classifier.model` and `classifier.weights`.
WEIGHTS: dict[str, dict[str, Weights]] = {
    "small_resnet": {
        # Made by `python -m benchmarks.train_digits`; its log is beside the file.
        "DIGITS": Weights(
            file="small_resnet-digits.safetensors",
            sha256="1f53c138f4818774de0506bf8e71d2c99a1ca04263f424b8651bf1bbe601c2a4",
            classes=10,
            held_out=500,
            requires={
                "dataset": {"name": "digits", "size": 32},
                "classifier": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
            },
        )
    }
}
