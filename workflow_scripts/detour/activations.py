"""Activations: the outputs of a network's layers, averaged over space."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from detour import classifiers, store
from detour.classifiers import Classifier
from detour.images import Digits, Folder, batches, shard
from detour.logs import progress
from detour.store import Made


class Recorder:
    """Keeps what the layers put out in the last forward pass, averaged on the device.

    Parameters
    ----------
    layers
        Names of modules of the classifier's network.
    """

    def __init__(self, classifier: Classifier, layers: list[str]) -> None:
        self.averages: dict[str, Tensor] = {}
        for name in layers:
            classifier.layer(name).register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.averages[name] = average(output)

        return keep


def average(output: Tensor) -> Tensor:
    """Mean over space of a layer's output.

    Parameters
    ----------
    output : [b, N], [b, N, H, W], or [b, tokens, N] as in transformers

    Returns
    -------
    float32 [b, N]
    """
    match output.ndim:
        case 2:
            return output.float()
        case 3:
            return output.float().mean(1)
        case 4:
            return output.float().mean((2, 3))
    raise ValueError(f"a layer puts out {tuple(output.shape)}, expected 2, 3 or 4 dimensions")


@torch.inference_mode()
def record(
    classifier: Classifier, layers: list[str], batched: Iterable[tuple[Tensor, Tensor]]
) -> Iterator[dict[str, np.ndarray]]:
    """Run batches through the network, once each.

    Parameters
    ----------
    batched
        Pairs of images uint8 [b, 3, H, W] and labels int64 [b].

    Yields
    ------
    dict
        For each layer float32 [b, N_l]; `logits` float32 [b, C]; `predicted` and `label` int64 [b].
    """
    recorder = Recorder(classifier, layers)
    device = classifier.mean.device
    for x, label in batched:
        logits = classifier(x.to(device, non_blocking=True).float().div(255))
        found = {name: recorder.averages[name] for name in layers}
        found |= {"logits": logits, "predicted": logits.argmax(1), "label": label}
        yield {name: value.cpu().numpy() for name, value in found.items()}


def extract(
    classifier: str | Path, images: str | Path, out: str | Path, *,
    layers: list[str], batch_size: int, device: str, made: Made,
) -> None:  # fmt: skip
    """Store the activations of a store of images: those of `record`, row for row."""
    stored = store.read(images)
    label = stored["label"][:]

    def batched() -> Iterator[tuple[Tensor, Tensor]]:
        starts = range(0, len(label), batch_size)
        for start in progress(starts, len(starts), f"{Path(images).name}: batches of {batch_size}"):
            rows = slice(start, start + batch_size)
            yield torch.from_numpy(stored["images"][rows]), torch.from_numpy(label[rows])

    _save(classifier, batched(), len(label), out, layers, device, made, [classifier, images])


def extract_reference(
    classifier: str | Path, dataset: Digits | Folder, out: str | Path, *,
    number: int, count: int, layers: list[str], batch_size: int, device: str, workers: int, made: Made,
) -> None:  # fmt: skip
    """Store the activations of one shard of the reference images, in the order of the classes.

    Parameters
    ----------
    number, count
        Of this shard, from 0, and of all.
    workers
        Processes that decode images.
    """
    images = shard(dataset.reference_images(), len(dataset.classes), number, count)
    batched = batches(
        images,
        batch_size,
        workers if dataset.decodes else 0,
        f"reference shard {number + 1} of {count}",
    )
    _save(classifier, batched, len(images.label), out, layers, device, made, [classifier])


def _save(
    classifier: str | Path, batched: Iterable[tuple[Tensor, Tensor]], n: int, out: str | Path,
    layers: list[str], device: str, made: Made, sources: list[str | Path],
) -> None:  # fmt: skip
    net = classifiers.load(classifier, classifiers.device_of(device))
    with store.create(out, made, sources, layers=layers, device=str(net.mean.device)) as group:
        store.write(group, record(net, layers, batched))
