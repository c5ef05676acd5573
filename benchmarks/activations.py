"""Activations: the extraction of reference images, from files to the store.

The baseline is the bare forward pass: batches that lie decoded in memory, weights frozen, channels last, no
output kept. The plain loop is what a notebook does: ImageFolder with the reference transform, hooks that append
averages, everything joined and saved at the end. All on the same images in the same batches, untrained weights.
On a CPU the network has one thread, so that decoding has a core of its own, as it has beside a GPU.
"""

import copy
import logging
import re
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks import timing
from benchmarks.photographs import photographs
from benchmarks.sections import Table
from detour import activations, classifiers, datasets
from detour.classifiers import Classifier, Question
from detour.datasets import Known
from detour.store import Made

GOAL = (
    "At least 0.95 of the speed of the bare forward pass (a ratio of at most 1.05), decoding and writing"
    " included, where decoding is not the limit; the share of time that the device waits, reported. Memory that"
    " stays within 10 % from 2,000 to 20,000 images."
)

NOTES = [
    "Batch norm is folded into the convolutions, so that Detour's pass is shorter than the bare one; what is left"
    " of that pays for averaging, decoding and writing.",
    "Where the network's threads take all cores, those that decode take their time from it: with two threads on two"
    " cores the same run took 1.4 (InceptionV3) and 1.6 (ResNet-18) of the bare pass, loading included. With small"
    " images one worker is the limit, as the share that the device waits says.",
]

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
BARE = "bare forward pass"
WHOLE = "Detour, from JPEG to store"
LOADING = "Detour, loading the classifier alone"


def run(quick: bool) -> list[Table]:
    cuda = torch.cuda.is_available()
    # The other core decodes, as the CPU does beside a GPU.
    torch.set_num_threads(1)
    if quick:
        return [measured("resnet18", 64, 64, 8, 4, rounds=1), flat((20,), 16)]
    return [
        measured("inception_v3", 342, 299, 2048 if cuda else 96, 128 if cuda else 16, rounds=2),
        measured("resnet18", 64, 64, 8192 if cuda else 2048, 256 if cuda else 128, rounds=2),
        flat((2_000, 6_000, 20_000), 100),
    ]


def measured(model: str, resize: int, crop: int, n: int, batch: int, rounds: int) -> Table:
    """All candidates on one network."""
    device = classifiers.device_of("auto")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        saved(root, n, (500, 375) if crop > 64 else (64, 64))
        path = root / "classifier.pt"
        classifiers.prepare(
            path, model=model, weights="untrained", mean=MEAN, std=STD, classes=1000, made=Made({}, "")
        )
        layers = classifiers.look(Question(model, "untrained", "auto", None, 1000, crop, "crop"))
        dataset = of_images(root, resize=resize, crop=crop)
        images = dataset.reference_images().images
        pixels = torch.stack([images[i][0] for i in range(n)])
        net = Classifier(classifiers.untrained(model, 1000, seed=0), MEAN, STD).eval().to(device)
        frozen = copy.deepcopy(net).requires_grad_(False).to(memory_format=torch.channels_last)
        options = {
            "number": 0, "count": 1, "layers": layers, "batch_size": batch, "device": "auto", "made": Made({}, "")
        }  # fmt: skip
        out = root / "out.zarr.zip"
        # One decodes beside a CPU's other core; a GPU eats more.
        counts = (4, 8, 16) if device.type == "cuda" else (1,)
        candidates = {
            BARE: partial(bare, frozen, pixels, batch),
            "Detour, images in memory, not written": partial(
                recorded, classifiers.load(path, device, keep=layers), layers, pixels, batch
            ),
            **{
                f"{WHOLE}, {workers} workers": partial(
                    activations.extract_reference, path, dataset, out, workers=workers, **options
                )
                for workers in counts
            },
            LOADING: partial(classifiers.load, path, device, keep=layers),
            "plain loop, from JPEG to file": partial(plain, net, layers, root, resize, crop, batch),
        }
        heard = Heard()
        found = timing.side_by_side(
            {name: partial(heard.by, name, call) for name, call in candidates.items()}, BARE, rounds
        )
    rest = [
        f"{(found[f'{WHOLE}, {workers} workers'].seconds - found[LOADING].seconds) / found[BARE].seconds:.2f}"
        f" with {workers} workers"
        for workers in counts
    ]
    return Table(
        f"{model}, {n} images of {crop} x {crop}, batches of {batch}",
        [
            timing.row(name, timed, 0 if name == LOADING else n, "images")
            | {"device waited": heard.waited.get(name, "")}
            for name, timed in found.items()
        ],
        note="From JPEG to store without loading the classifier, which a job of thousands of images does once:"
        f" {', '.join(rest)} of the bare pass.",
    )


class Heard(logging.Handler):
    """What extraction logs of the time that the device waits, by the candidate that was called."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: dict[str, str] = {}
        logging.getLogger("detour").addHandler(self)
        logging.getLogger("detour").setLevel(logging.INFO)

    def by(self, name: str, call: partial) -> None:
        self._name = name
        call()

    def emit(self, record: logging.LogRecord) -> None:
        if share := re.search(r"the device waited (\d+ %)", record.getMessage()):
            self.waited[self._name] = share[1]


def of_images(root: Path, **section: Any) -> Known:
    return datasets.dataset({"name": "image_folder", "reference": str(root / "images"), **section})


def saved(root: Path, n: int, size: tuple[int, int]) -> None:
    """So many JPEGs in two classes; one file for each photograph, and links to it."""
    folders = [root / "images" / name for name in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
    files = []
    for i, picture in enumerate(photographs(min(n, 100))):
        files.append(root / f"{i}.jpg")
        picture.resize(size, Image.Resampling.BICUBIC).save(files[-1], quality=92)
    for i in range(n):
        (folders[i % 2] / f"{i:06}.jpg").symlink_to(files[i % len(files)])


@torch.inference_mode()
def bare(net: nn.Module, pixels: Tensor, batch: int) -> None:
    for x in pixels.split(batch):
        net(x.to(net.mean.device, non_blocking=True).float().div(255))


def recorded(net: Classifier, layers: list[str], pixels: Tensor, batch: int) -> None:
    label = torch.zeros(batch, dtype=torch.int64)
    for _ in activations.record(net, layers, ((x, label[: len(x)]) for x in pixels.split(batch))):
        pass


def plain(net: Classifier, layers: list[str], root: Path, resize: int, crop: int, batch: int) -> None:
    """Hooks and lists."""
    kept: dict[str, list[Tensor]] = {name: [] for name in layers}
    hooks = [
        net.layer(name).register_forward_hook(
            lambda module, inputs, output, name=name: kept[name].append(output.mean((2, 3)).cpu())
        )
        for name in layers
    ]
    transform = v2.Compose(
        [v2.Resize(resize), v2.CenterCrop(crop), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    )
    dataset = ImageFolder(str(root / "images"), transform)
    with torch.no_grad():
        for x, _ in torch.utils.data.DataLoader(dataset, batch):
            net(x.to(net.mean.device))
    np.savez(root / "plain.npz", **{name: torch.cat(parts).numpy() for name, parts in kept.items()})
    for hook in hooks:
        hook.remove()


def flat(counts: tuple[int, ...], batch: int) -> Table:
    """The peak memory of extraction, process and decoding worker, each number of images in a process of its own."""
    rows = []
    for n in counts:
        with tempfile.TemporaryDirectory() as folder:
            saved(Path(folder), n, (64, 64))
            seconds, peak = timing.alone(_extracted, Path(folder), batch)
        rows.append(
            {
                "images": n,
                "seconds": seconds,
                "peak MB": peak,
                "ratio": peak / rows[0]["peak MB"] if rows else 1,
            }
        )
    steps = ", ".join(f"{after['peak MB'] / before['peak MB']:.2f}" for before, after in pairwise(rows))
    return Table(
        f"Peak memory, resnet18 at 32 x 32, batches of {batch}, 1 worker",
        rows,
        note=f"From step to step: {steps}.",
    )


def _extracted(root: Path, batch: int) -> tuple[float, float]:
    """Seconds and peak MB of this process."""
    path = root / "classifier.pt"
    classifiers.prepare(
        path, model="resnet18", weights="untrained", mean=MEAN, std=STD, classes=2, made=Made({}, "")
    )
    layers = classifiers.look(Question("resnet18", "untrained", "auto", None, 2, 32, "crop"))
    extract = partial(
        activations.extract_reference, path, of_images(root, crop=32), root / "out.zarr.zip",
        number=0, count=1, layers=layers, batch_size=batch, device="auto",
        workers=1, made=Made({}, ""),
    )  # fmt: skip
    begin = time.perf_counter()
    extract()
    return time.perf_counter() - begin, timing.peak_mb()
