"""Recorded: images beside a run, with what the stages would say of them."""

from functools import cached_property

import numpy as np

from detour import neighbours
from detour.bundle import Bundle
from detour.detectors.versions import Run, Versions
from detour.distances import REPRESENTATIVES, distances
from detour.typical import PREPROCESSED, SQUEEZED

# Of no image of the run: none of its images is left out of what it is compared with.
FOREIGN = -1


class Recorded(Versions):
    """Images beside a run, with what the stages say of them, computed when asked for.

    Parameters
    ----------
    found
        What `detour.activations.record` yields of them, and what the bundle's detector reads `further`, see
        `detour.typical`: what needs the network is computed once, for the detectors of all folds.
    """

    def __init__(self, bundle: Bundle, found: dict[str, np.ndarray]) -> None:
        self.bundle, self.found = bundle, found
        count = len(found["predicted"])
        self.run, self.sets = Run(), ["images"]
        self.sources = self.source = np.full(count, FOREIGN)
        self.set = np.repeat(self.sets, count)
        self.adversarial = np.zeros(count, dtype=bool)

    def to(self, representative: str, metric: str) -> np.ndarray:
        """Distances to the classes' representatives, float32 [m, L, C]."""
        name, held = REPRESENTATIVES[representative], self.bundle.of_classes
        at_layers = [
            distances(self.found[layer], held[f"{name}/{layer}"], metric)
            for layer in self.bundle.about["layers"]
        ]
        return np.stack(at_layers, axis=1).astype(np.float32)

    @cached_property
    def distances(self) -> np.ndarray:
        """float32 [m, L, C]"""
        return self.to(*self.bundle.about["measure"])

    def activations(self, layer: str) -> np.ndarray:
        """float32 [m, N_l]"""
        return self.found[layer]

    @cached_property
    def predicted(self) -> np.ndarray:
        """int64 [m]"""
        return self.found["predicted"]

    @cached_property
    def logits(self) -> np.ndarray:
        """float32 [m, C]"""
        return self.found["logits"]

    def squeezed(self, squeezer: str, by: int) -> np.ndarray:
        """Logits float32 [m, C] of the squeezed images, see `detour.squeezed.logits`."""
        return self.found[f"{SQUEEZED}{squeezer}-{by}"]

    def preprocessed(self, magnitude: float) -> np.ndarray:
        """Mahalanobis confidences float64 [m, L], see `detour.preprocessed.confidences`."""
        return self.found[f"{PREPROCESSED}{magnitude:g}"]

    @property
    def layers(self) -> list[str]:
        return self.bundle.about["layers"]

    def neighbours(self, layer: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distance float32 and label int64 [m, k] of the k nearest reference images, nearest first."""
        x = self.found[layer]
        blocks = self.bundle.references(layer, neighbours.ENTRIES)
        return neighbours.joined((neighbours.among(x, *block, k) for block in blocks), k, layer)

    def gaussian(self, layer: str) -> dict[str, np.ndarray]:
        """Mean, covariance and whitening, see `detour.gaussians.fit`."""
        held = self.bundle.of_classes.items()
        return {name.removesuffix(f"/{layer}"): x for name, x in held if name.endswith(f"/{layer}")}
