"""Detect adversarial images by the path of their activations through a network.

One module per stage, in the order of the data: images, classifiers, attacks, controls, activations, medoids,
distances, folds, detectors, metrics, bundle, figures, report. Later stages import earlier ones, never the
other way round. The others are what several stages share (artefacts, store, logs, seeds, areas, folders,
spelling, errors) and what the workflow asks (config, code). `Detector` (detector, recorded, explanation)
scores images with the bundle that a run left; the command (command) has besides what puts runs side by side
(leaderboard, compared) and what begins a configuration (initial).
"""

from importlib import import_module
from typing import Any

from detour.errors import DetourError

__all__ = ["Detector", "DetourError"]


def __getattr__(name: str) -> Any:
    """`Detector`, when it is asked for: it needs torch, which a start of the workflow does without.

    By its name alone, because every job's digest covers what this module imports.
    """
    if name == "Detector":
        return import_module("detour.detector").Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
