"""Preprocessed: Mahalanobis confidences after a step of the pixels that raises them (Lee et al. 2018)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detour import classifiers, store
from detour.activations import Recorder
from detour.classifiers import Classifier
from detour.errors import InputError
from detour.logs import progress
from detour.store import Made


class Gaussian:
    """The Gaussians of a layer, with a gradient of their confidence.

    Parameters
    ----------
    mean : float64 [C, N]
    whitening : float64 [N, N]
        See `detour.gaussians.fit`.
    """

    def __init__(self, mean: np.ndarray, whitening: np.ndarray, device: torch.device) -> None:
        means, self.whitening = (torch.from_numpy(x).to(device) for x in (mean, whitening))
        # Centred: only differences count, and they keep more digits.
        self.centre = means.mean(0)
        self.means = (means - self.centre) @ self.whitening

    def confidence(self, activations: Tensor) -> Tensor:
        """M = max_c -(f - mu_c)^T Sigma^-1 (f - mu_c), float64 [b] of float32 [b, N] (eq. 2)."""
        f = (activations - self.centre) @ self.whitening
        exact = "donot_use_mm_for_euclid_dist"
        nearest = torch.cdist(f.detach(), self.means, compute_mode=exact).argmin(1)
        return -(f - self.means[nearest]).square().sum(1)


# Its gradients are needed, whatever whoever calls has switched off.
@torch.inference_mode(False)
def confidences(
    classifier: Classifier, recorder: Recorder, gaussians: dict[str, Gaussian], images: np.ndarray,
    magnitudes: Sequence[float],
) -> np.ndarray:  # fmt: skip
    """M at each layer, after the step of each size that is the layer's own (algorithm 1).

    x' = x + eps sign(dM_l / dx), towards the nearest class of x; at x', the class is looked for anew. As in
    the paper, x' may leave [0, 1].

    Parameters
    ----------
    recorder
        Of the layers that the Gaussians are of.
    images : uint8 [b, 3, H, W]
    magnitudes
        Sizes of the step, eps, in pixels of 255.

    Returns
    -------
    float64 [b, M, L]
        By magnitude and layer.
    """
    x = torch.from_numpy(images).to(classifier.mean.device).float().div(255).requires_grad_()
    classifier(x)
    averages = recorder.averages.copy()
    columns = []
    for layer, gaussian in gaussians.items():
        total = gaussian.confidence(averages[layer]).sum()
        # The graph is that of all layers.
        (gradient,) = torch.autograd.grad(total, x, retain_graph=True)
        if not gradient.isfinite().all():
            raise InputError(
                f"the gradient of the confidence at {layer} is not finite; look at the classifier's weights"
            )
        with torch.no_grad():
            rows = []
            for magnitude in magnitudes:
                classifier(x + magnitude / 255 * gradient.sign())
                rows.append(gaussian.confidence(recorder.averages[layer]))
        columns.append(torch.stack(rows, dim=1))
    return torch.stack(columns, dim=2).cpu().numpy()


def extract(
    classifier: str | Path, images: str | Path, gaussians: Sequence[str | Path], out: str | Path, *,
    layers: list[str], magnitudes: list[float], batch_size: int, device: str, made: Made,
) -> None:  # fmt: skip
    """Store the confidences of a set's images: `confidence` float64 [n, M, L], see `confidences`.

    In float32 always, as the activations of the test images. The attribute `magnitudes` says which they are.

    Parameters
    ----------
    gaussians
        Stores, in the order of the layers.
    """
    net = classifiers.load(classifier, classifiers.device_of(device), keep=layers)
    used = net.mean.device
    recorder = Recorder(net, layers)
    groups = {layer: store.read(path) for layer, path in zip(layers, gaussians, strict=True)}
    found = {layer: Gaussian(of["mean"][:], of["whitening"][:], used) for layer, of in groups.items()}
    stored = store.read(images)

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        starts = range(0, stored["images"].shape[0], batch_size)
        for start in progress(starts, len(starts), f"{Path(images).name}: batches of {batch_size}"):
            x = stored["images"][start : start + batch_size]
            yield {"confidence": confidences(net, recorder, found, x, magnitudes)}

    attributes = {"layers": layers, "magnitudes": magnitudes, "device": str(used)}
    with store.create(out, made, [classifier, images, *gaussians], **attributes) as group:
        store.write(group, blocks())
