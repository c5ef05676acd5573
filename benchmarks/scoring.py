"""Scoring: new images by the detector of a bundle, from their pixels to verdicts.

The baseline is the bare forward pass: the same pixels in the same batches, weights frozen, channels last, no output kept.
Bundles are made by the workflow, on a network of untrained weights or on EfficientNet-Lite0, of few images: what
they find means nothing, what they do with an image is the same. Below it, `detour score` on one file, from the start of
Python to its verdict, beside the start of Python that imports torch alone.
"""

import copy
import importlib.util
import subprocess
import sys
import tempfile
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torchvision.transforms import v2

from benchmarks import timing
from benchmarks.activations import BARE, MEAN, STD, bare
from benchmarks.demo import PARTS, ROOT
from benchmarks.photographs import photographs
from benchmarks.sections import Table
from detour import Detector, classifiers
from detour.classifiers import Classifier

GOAL = (
    "At most 1.15 of the bare forward pass, decoding aside, for the LSTM and `fisher_mlp`, ResNet-18 at 64 and"
    " EfficientNet-Lite0 at 224. From the start to the first verdict under 5 s on two cores."
)

NOTES = [
    "Batch norm is folded into the convolutions of a bundle's network, and not into those of the bare one.",
    "Each of the K folds' detectors scores every image: what is the detector's own grows with K, here 5.",
]

TORCH = "python -c 'import torch'"
LITE0 = "efficientnet_lite_pytorch"
DETECTORS = [{"name": "lstm", "method": "lstm", "epochs": 2}, {"name": "fisher_mlp", "method": "fisher_mlp"}]


def run(quick: bool) -> list[Table]:
    if quick:
        return [Table("Scoring", [{"network": "not run: its bundles are made by two runs of the workflow"}])]
    found = [measured("resnet18", {"model": "resnet18", "weights": "untrained"}, 64, 512, 64)]
    if importlib.util.find_spec(LITE0):
        section = yaml.safe_load((ROOT / "presets/imagenette.yaml").read_text())["classifier"]
        section["model"] = f"{ROOT}/{section['model']}"
        found.append(measured("efficientnet_lite0", section, 224, 128, 32))
    else:
        found.append([Table("efficientnet_lite0", [{"candidate": f"not measured: no package {LITE0}"}])])
    return [table for tables in found for table in tables]


def measured(name: str, section: dict[str, Any], side: int, n: int, batch: int) -> list[Table]:
    """One network, of so many images of side x side in batches."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bundles = made(folder, section, side)
        pixels = torch.stack([v2.functional.pil_to_tensor(p.resize((side, side))) for p in photographs(n)])
        trusted = [section["model"]] if ":" in section["model"] else []
        loaded = {detector: Detector.load(path, trusted=trusted) for detector, path in bundles.items()}
        net = plain(section).eval().to(classifiers.device_of("auto"))
        frozen = copy.deepcopy(net).requires_grad_(False).to(memory_format=torch.channels_last)
        scored = {
            f"Detour, {name}": partial(detector, pixels.numpy(), 0.1, batch)
            for name, detector in loaded.items()
        }
        found = timing.side_by_side({BARE: partial(bare, frozen, pixels, batch), **scored}, BARE, rounds=5)
        file = next((folder / "images").rglob("*.png"))
        score = ("-c", "from detour.command import app; app()", "score", "--fpr", "0.1")
        began = timing.side_by_side(
            {TORCH: partial(started, folder, "-c", "import torch")}
            | {
                f"detour score, {name}": partial(
                    started,
                    folder,
                    *score,
                    str(path),
                    str(file),
                    *chain.from_iterable(("--trust", each) for each in trusted),
                )
                for name, path in bundles.items()
            },
            TORCH,
            rounds=3,
        )
    return [
        Table(
            f"{name}, {n} images of {side} x {side}, batches of {batch}",
            [timing.row(each, timed, n, "images") for each, timed in found.items()],
        ),
        Table(
            f"{name}, from the start to the verdict on one file",
            [timing.row(*each) for each in began.items()],
        ),
    ]


def made(folder: Path, section: dict[str, Any], side: int) -> dict[str, Path]:
    """Bundles of a run on some photographs, ten classes of them, by detector."""
    for name in (*PARTS, "presets"):
        (folder / name).symlink_to(ROOT / name)
    for i, picture in enumerate(photographs(200)):
        place = folder / "images" / ("train" if i < 100 else "val") / f"{i % 10}"
        place.mkdir(parents=True, exist_ok=True)
        # There may be fewer; the same file in two classes is an error.
        picture.rotate(i).resize((side, side)).save(place / f"{i}.png")
    settings = {
        "run": "scoring",
        "dataset": {
            "name": "image_folder", "reference": "images/train", "test": "images/val", "resize": side, "crop": side,
        },
        "classifier": section,
        "attacks": [{"name": "fgsm", "method": "fgsm", "eps": 16, "target": "random"}],
        "protocols": ["known"],
        "detectors": DETECTORS,
        "adaptive": {"methods": []},
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    bundles = {entry["name"]: f"results/scoring/detectors/{entry['name']}/bundle" for entry in DETECTORS}
    started(folder, "-m", "snakemake", "--cores", "2", "--configfile", "run.yaml", "--", *bundles.values())
    return {name: folder / place for name, place in bundles.items()}


def plain(section: dict[str, Any]) -> nn.Module:
    """The network of a bundle as it is, from pixels between 0 and 1 to its outputs."""
    network = classifiers.untrained(section["model"], 10, seed=0)
    return Classifier(network, MEAN, STD, section.get("classes"))


def started(folder: Path, *arguments: str) -> None:
    """Run Python in a folder; 3 is what `detour score` ends with where it flags an image."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stdout + done.stderr)
