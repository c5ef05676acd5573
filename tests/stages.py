"""A run by the functions of the stages in this process, which does without the start of Python for each job."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detour import (
    activations,
    attacks,
    classifiers,
    config,
    datasets,
    detectors,
    distances,
    folds,
    gaussians,
    images,
    medoids,
    neighbours,
)
from detour.detectors import Run
from detour.options.run import Run as Options
from detour.store import Made


@dataclass(frozen=True)
class Stages:
    """What the stages wrote; `layers` are those compared, in their order."""

    classifier: Path
    reference: Path
    images: dict[str, Path]
    medoids: list[Path]
    folds: Path
    layers: list[str]
    stores: Run
    # By name of the detector and fold.
    models: dict[tuple[str, int], Path]


def run(folder: Path, settings: Options, trained: Sequence[int]) -> Stages:
    """Every stage up to the detectors of some folds, which know every attack; of a whole configuration on digits."""
    made, seed, section = Made({}, ""), settings.seed, settings.classifier
    on = {"batch_size": settings.batch_size, "device": "cpu", "made": made}
    dataset = datasets.dataset(settings.dataset.model_dump())
    layers = config.layers(settings, folder / "layers.json")

    def path(stage: str, name: str) -> Path:
        (folder / stage).mkdir(exist_ok=True)
        return folder / stage / f"{name}.zarr.zip"

    training = {"training": section.training, "dataset": dataset, "device": "cpu"}
    classifier = folder / "classifier.pt"
    classifiers.prepare(
        classifier, made=made, classes=len(settings.dataset.classes),
        **section.model_dump(include={"model", "options", "weights", "mean", "std"}),
        **(training if section.weights == "train" else {}),
    )  # fmt: skip
    reference = path("reference", "0")
    activations.extract_reference(
        classifier, dataset, reference, number=0, count=1, layers=layers, workers=0, **on
    )
    sets = {
        name: path("images", name) for name in ["original", *(attack.name for attack in settings.attacks)]
    }
    images.collect(dataset, sets["original"], seed=seed, workers=0, made=made)
    for attack in settings.attacks:
        attacks.perturb(classifier, sets["original"], sets[attack.name], attack=attack, seed=seed, **on)
    found = [path("medoids", layer) for layer in layers]
    for layer, out in zip(layers, found, strict=True):
        medoids.find([reference], out, layer=layer, made=made)
    of_layers = {layer: path("gaussians", layer) for layer in layers}
    for layer, out in of_layers.items():
        gaussians.fit([reference], out, layers=[layer], made=made)
    joint = path("gaussians", "joint")
    gaussians.fit([reference], joint, layers=layers, made=made)
    stores = Run(
        activations={name: path("activations", name) for name in sets},
        distances={name: path("distances", name) for name in sets},
        neighbours={name: path("neighbours", name) for name in sets},
        gaussians=of_layers,
        joint={"joint": joint},
    )
    for name, pictures in sets.items():
        seen = stores.activations[name]
        activations.extract(classifier, pictures, seen, layers=layers, **on)
        distances.measure(seen, found, stores.distances[name], made=made)
        neighbours.find(seen, [reference], stores.neighbours[name], layers=layers, k=100, made=made)
    dealt = path("folds", "dealt")
    folds.deal(sets["original"], dealt, **settings.folds.model_dump(), seed=seed, made=made)
    models = {}
    for entry in config.among(settings, layers).detectors:
        for fold in trained:
            models[entry.name, fold] = model = folder / f"{entry.name}-{fold}.pt"
            detectors.train(
                stores, dealt, model, model.with_suffix(".zarr.zip"), options=entry, protocols=["known"], fold=fold,
                seed=settings.seeds[0], made=made,
            )  # fmt: skip
    return Stages(classifier, reference, sets, found, dealt, layers, stores, models)
