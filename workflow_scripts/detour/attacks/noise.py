"""Noise: what changes an image without looking at the classifier."""

import numpy as np
import torch
from cleverhans.torch.attacks import noise as cleverhans
from torch import Tensor

from detour.attacks.batch import Batch, seeded
from detour.classifiers import Classifier
from detour.options.attacks.noise import Noise


def noise(classifier: Classifier, batch: Batch, attack: Noise) -> Tensor:
    """Uniform in [-eps, eps], image by image because CleverHans draws from torch's global generator."""
    noisy = []
    # On the CPU, whose generator gives the same draws on every machine.
    for image, seed in zip(batch.x.cpu(), batch.seeds, strict=True):
        with seeded(seed, image.device):
            noisy.append(cleverhans.noise(image, attack.radius, np.inf, 0, 1))
    return torch.stack(noisy).to(batch.x.device)
