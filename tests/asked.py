"""What a configuration gives a job, without the checks of a whole one."""

from collections.abc import Iterator
from typing import Any

from detour import datasets, detectors
from detour.datasets import Known
from detour.detectors import Detector
from detour.options import attacks
from detour.options import detectors as options
from detour.options.attacks import Attack
from detour.options.detectors import Detector as Options

# What entries of these methods cannot do without.
REQUIRED = {
    "files": {"path": "."},
    "torchattacks": {"attack": "PGD"},
    "foolbox": {"attack": "LinfPGD"},
    "art": {"attack": "FastGradientMethod"},
}


# What entries of each control have beside their name and method.
CONTROLS: dict[str, dict[str, Any]] = {
    "noise": {"eps": 16}, "gaussian_noise": {"sigma": 8}, "shot_noise": {"photons": 60}, "jpeg": {"quality": 50},
    "gaussian_blur": {"sigma": 1.5}, "defocus": {"radius": 2}, "motion": {"length": 5}, "rescale": {"factor": 0.5},
    "brightness": {"factor": 1.3}, "contrast": {"factor": 0.6}, "gamma": {"gamma": 1.5}, "grey": {}, "flip": {},
    "crop": {"factor": 0.75}, "rotate": {"degrees": 20},
}  # fmt: skip


def attack_entries() -> Iterator[dict[str, Any]]:
    """An entry of every attack of this project, as a configuration has it."""
    for method, option in attacks.METHODS.items():
        eps = {"eps": 8} if "eps" in option.model_fields else {}
        yield {"name": method, "method": method} | eps | REQUIRED.get(method, {})


def attack(method: str, name: str = "a", **entry: Any) -> Attack:
    return attacks.attack({"name": name, "method": method, **entry})


def entry(method: str, name: str = "d", **entry: Any) -> Options:
    """The options of a detector."""
    return options.detector({"name": name, "method": method, **entry})


def detector(method: str, **options: Any) -> Detector:
    """It, untrained."""
    return detectors.detector(entry(method, **options))


def digits(test: int, size: int) -> Known:
    return datasets.dataset({"name": "digits", "test": test, "size": size})


def folder(**section: Any) -> Known:
    return datasets.dataset({"name": "image_folder", **section})


def nips2017(**section: Any) -> Known:
    return datasets.dataset({"name": "nips2017", **section})


def listed(**section: Any) -> Known:
    return datasets.dataset({"name": "csv", **section})
