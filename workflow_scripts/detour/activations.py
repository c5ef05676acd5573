"""Activations: the outputs of a network's layers, averaged over space."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from detour import classifiers, store
from detour.classifiers import BATCH, Classifier
from detour.datasets import Known
from detour.errors import InputError
from detour.images import batches, shard
from detour.logs import progress
from detour.outputs import average, channels
from detour.store import Made

logger = logging.getLogger(__name__)


class Recorder:
    """Keeps what the layers put out in the last forward pass, averaged on the device.

    The first pass is preceded by one that tells where the layers have their channels.

    Parameters
    ----------
    layers
        Names of modules of the classifier's network.
    """

    def __init__(self, classifier: Classifier, layers: list[str]) -> None:
        self.averages: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []
        self._modules = {name: classifier.layer(name) for name in layers}
        self._first = classifier.register_forward_pre_hook(self._look)

    def _look(self, classifier: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._first.remove()
        axes = channels(classifier, self._modules, inputs[0][:BATCH])
        for name, module in self._modules.items():
            self._hooks.append(module.register_forward_hook(self._hook(name, axes[name])))

    def remove(self) -> None:
        """Leave the network as it was."""
        for hook in (self._first, *self._hooks):
            hook.remove()

    def _hook(self, name: str, axis: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.averages[name] = average(output, axis)

        return keep


@torch.inference_mode()
def record(
    classifier: Classifier, layers: list[str], batched: Iterable[tuple[Tensor, Tensor]], what: str = "images"
) -> Iterator[dict[str, np.ndarray]]:
    """Run batches through the network, once each.

    Parameters
    ----------
    batched
        Pairs of images uint8 [b, 3, H, W] and labels int64 [b].
    what
        Name of the images, for errors.

    Yields
    ------
    dict
        For each layer float32 [b, N_l]; `logits` float32 [b, C]; `predicted` and `label` int64 [b].

    Raises
    ------
    ValueError
        If a layer or the logits of an image have a value that is not finite.
    """
    recorder = Recorder(classifier, layers)
    device = classifier.mean.device
    clock = _Clock(device)
    before, done = None, 0

    def checked(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        nonlocal done
        for name in (*layers, "logits"):
            if not np.isfinite(found[name]).all():
                row = int(np.argmin(np.isfinite(found[name]).all(1)))
                raise InputError(
                    f"{what}: {name} of image {done + row}, of class {found['label'][row]}, is not finite"
                    f" when computed in {classifier.dtype}; look at the weights of the classifier"
                    f"{'' if classifier.dtype is torch.float32 else ', or set precision: float32'}"
                )
        done += len(found["label"])
        return found

    try:
        for x, label in batched:
            start = clock.now()
            logits = classifier(x.to(device, non_blocking=True).float().div(255))
            found = {name: recorder.averages[name] for name in layers}
            found |= {"logits": logits, "predicted": logits.argmax(1), "label": label}
            launched = {name: value.to("cpu", non_blocking=True) for name, value in found.items()}
            # A GPU works on this batch while the one before is written.
            if before:
                yield checked(clock.arrived(*before))
            before = launched, start, clock.now()
        if before:
            yield checked(clock.arrived(*before))
    finally:
        recorder.remove()
    logger.info("the device waited %.0f %% of the time for images and for writing", 100 * clock.idle())


class _Clock:
    """How long a device computes: by its own events where it runs beside the host."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._begin, self._busy = time.perf_counter(), 0.0

    def now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def arrived(self, found: dict[str, Tensor], start: Any, end: Any) -> dict[str, np.ndarray]:
        """What was launched between the two, once it is there."""
        if self._cuda:
            end.synchronize()
            self._busy += start.elapsed_time(end) / 1000
        else:
            self._busy += end - start
        return {name: value.numpy() for name, value in found.items()}

    def idle(self) -> float:
        """Share of the time in which nothing was computed."""
        return 1 - self._busy / (time.perf_counter() - self._begin)


def extract(
    classifier: str | Path, images: str | Path, out: str | Path, *,
    layers: list[str], batch_size: int, device: str, made: Made,
) -> None:  # fmt: skip
    """Store the activations of a store of images: those of `record`, row for row.

    In float32 always: whether an attack succeeds is not to depend on the precision that it was made in.
    """
    net = classifiers.load(classifier, classifiers.device_of(device), keep=layers)
    stored = store.read(images)
    label = stored["label"][:]

    def batched() -> Iterator[tuple[Tensor, Tensor]]:
        starts = range(0, len(label), batch_size)
        for start in progress(starts, len(starts), f"{Path(images).name}: batches of {batch_size}"):
            rows = slice(start, start + batch_size)
            yield torch.from_numpy(stored["images"][rows]), torch.from_numpy(label[rows])

    attributes = {"layers": layers, "device": str(net.mean.device)}
    with store.create(out, made, [classifier, images], **attributes) as group:
        store.write(group, record(net, layers, batched(), Path(images).name))


def extract_reference(
    classifier: str | Path, dataset: Known, out: str | Path, *,
    number: int, count: int, layers: list[str], batch_size: int, device: str, precision: str = "float32",
    workers: int, made: Made,
) -> None:  # fmt: skip
    """Store the activations of one shard of the reference images, in the order of the classes.

    Parameters
    ----------
    number, count
        Of this shard, from 0, and of all.
    precision
        See `detour.classifiers.load`.
    workers
        Processes that decode images.

    Notes
    -----
    The attribute `skipped` says which files could not be decoded, and why; they are left out. `turned`
    names those that ask to be turned, which is not done.
    """
    net = classifiers.load(classifier, classifiers.device_of(device), precision, keep=layers)
    skipped: list[str] = []
    turned: list[str] = []
    what = f"reference shard {number + 1} of {count}"
    batched = batches(
        shard(dataset, number, count),
        batch_size,
        workers if dataset.decodes else 0,
        what,
        skipped=skipped,
        turned=turned,
        pinned=net.mean.is_cuda,
    )
    attributes = {"layers": layers, "device": str(net.mean.device)}
    with store.create(out, made, [classifier], **attributes) as group:
        store.write(group, record(net, layers, batched, what))
        group.attrs["skipped"], group.attrs["turned"] = skipped, turned
