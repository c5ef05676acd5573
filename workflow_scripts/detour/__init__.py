"""Detect adversarial images by the path of their activations through a network.

One module per stage, in the order of the data: images, classifiers, attacks, activations, medoids,
distances, folds, detectors, metrics, figures, report. Later stages import earlier ones, never the other
way round. The others are what several stages share (artefacts, store, logs, seeds, areas, folders,
spelling, errors) and what the workflow asks (config, code).
"""

from detour.errors import DetourError

__all__ = ["DetourError"]
