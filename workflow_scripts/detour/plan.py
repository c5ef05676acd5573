"""Plan: from a configuration to its artefacts, and which job reads which; without Snakemake or torch.

Every rule asks here what a job reads, what it is told, and which code it runs; `Plan.jobs` has them all.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import product
from typing import Any

from detour import folders, strengths
from detour.errors import InputError
from detour.identity import asked, identity
from detour.options.attacks import Attack
from detour.options.base import shortest
from detour.options.controls import Control
from detour.options.detectors import PAPER_S, Detector
from detour.options.run import Run

# In place of a layer: some side by side, or all.
JOINT = "joint"

REPRESENTATIVES = {"medoid": "medoids", "centroid": "gaussians"}

# What is read of each of several runs side by side, in its folder.
COMPARED = {
    "boards": "leaderboard.json",
    "scores": "scores.zarr.zip",
    "verdicts": "verdicts.zarr.zip",
    "images": "images/original.zarr.zip",
}


@dataclass(frozen=True)
class Job:
    """What a job reads and is told: if something else, it has to run again.

    Parameters
    ----------
    script
        In `workflow_scripts/`.
    reads
        Artefacts, by what they are to the script.
    told
        Settings, of what JSON has.
    methods
        Modules and references of what it loads by name, which its imports do not show.
    """

    script: str
    reads: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)
    methods: tuple[str, ...] = ()


def artefact(path: str) -> str:
    """Where a store or a table that jobs read is, in the folder of the run."""
    return f"<run>/{path}.zarr.zip"


def csv(name: str) -> str:
    """Where people read a table."""
    return f"<run>/{name}.csv"


@dataclass(frozen=True)
class Plan:
    """The artefacts of a run.

    Parameters
    ----------
    run
        Its options.
    layers
        Names of the layers that are compared, in the order of the data.
    contents
        Digests of the files that it names, see `detour.manifest.contents`.
    """

    run: Run
    layers: list[str]
    contents: dict[str, Any]

    classifier_path = "<run>/classifier.pt"

    @cached_property
    def attacks(self) -> dict[str, Attack]:
        """By name."""
        return {attack.name: attack for attack in self.run.attacks}

    @cached_property
    def controls(self) -> dict[str, Control]:
        """By name."""
        return {control.name: control for control in self.run.controls}

    @cached_property
    def detectors(self) -> dict[str, Detector]:
        """By name."""
        return {detector.name: detector for detector in self.run.detectors}

    @cached_property
    def sets(self) -> list[str]:
        """Versions of the test images."""
        return ["original", *self.attacks, *self.controls]

    @property
    def workers(self) -> int:
        """Processes that decode the images of one extraction job."""
        return getattr(self.run.dataset, "workers", 1)

    @property
    def shards(self) -> range:
        return range(self.run.dataset.shards)

    @property
    def folds(self) -> range:
        return range(self.run.folds.count)

    def seeds(self, detector: str) -> list[int]:
        """Seeds that a detector is trained with: one, if it does not draw."""
        return self.run.seeds if self.detectors[detector].seeded else self.run.seeds[:1]

    @cached_property
    def images(self) -> dict[str, str]:
        return {s: artefact(f"images/{s}") for s in self.sets}

    @cached_property
    def activations(self) -> dict[str, str]:
        return {s: artefact(f"activations/{s}") for s in self.sets}

    @cached_property
    def references(self) -> list[str]:
        return [artefact(f"activations/reference/{shard}") for shard in self.shards]

    @cached_property
    def medoids(self) -> list[str]:
        return [artefact(f"medoids/{layer}") for layer in self.layers]

    @cached_property
    def gaussians(self) -> list[str]:
        return [artefact(f"gaussians/{layer}") for layer in self.layers]

    @cached_property
    def neighbours(self) -> dict[str, str]:
        return {s: artefact(f"neighbours/{s}") for s in self.sets}

    @cached_property
    def squeezed(self) -> dict[str, str]:
        return {s: artefact(f"squeezed/{s}") for s in self.sets}

    @cached_property
    def preprocessed(self) -> dict[str, str]:
        return {s: artefact(f"preprocessed/{s}") for s in self.sets}

    @cached_property
    def distances(self) -> dict[tuple[str, str], dict[str, str]]:
        """By representative and metric, and by set; the figures show the paper's."""
        measures = dict.fromkeys([PAPER_S, *(d.measure for d in self.run.detectors)])
        return {m: {s: artefact(f"distances/{'-'.join(m)}/{s}") for s in self.sets} for m in measures}

    @cached_property
    def joints(self) -> dict[str, list[str]]:
        """Layers by the name of the Gaussian that has them side by side.

        It is decomposed once, for all folds and seeds.
        """
        return {
            self._joint(entry): entry.compared or self.layers
            for entry in self.run.detectors
            if "joint" in entry.reads
        }

    def _joint(self, entry: Detector) -> str:
        if entry.compared in (None, self.layers):
            return JOINT
        return f"{JOINT}-{sha256(json.dumps(entry.compared).encode()).hexdigest()[:8]}"

    @cached_property
    def trainings(self) -> list[tuple[str, int, int]]:
        """Detector, seed and fold."""
        return [
            (name, seed, fold) for name in self.detectors for seed in self.seeds(name) for fold in self.folds
        ]

    def of_training(self, detector: str, seed: int, fold: int, name: str) -> str:
        """Where a file of a detector's training is."""
        return f"<run>/detectors/{detector}/seed-{seed}/fold-{fold}/{name}"

    @cached_property
    def evaluated(self) -> list[str]:
        return [self.of_training(*training, "scores.zarr.zip") for training in self.trainings]

    @cached_property
    def histories(self) -> list[str]:
        return [self.of_training(*training, "history.zarr.zip") for training in self.trainings]

    @cached_property
    def bundles(self) -> dict[str, str]:
        """Folders of the bundles, by detector, of those that know every attack."""
        if "known" not in self.run.protocols:
            return {}
        return {name: f"<run>/detectors/{name}/bundle" for name in self.detectors}

    @cached_property
    def adaptations(self) -> list[tuple[str, str, int]]:
        """Detector, method and fold of the adaptive attacks."""
        asked = self.run.adaptive
        names = asked.detectors or [entry.name for entry in self.run.detectors if entry.attackable][:1]
        return list(product(names, asked.methods, asked.folds))

    @cached_property
    def adapted(self) -> list[str]:
        return [artefact(f"adaptive/{d}/{method}/fold-{fold}") for d, method, fold in self.adaptations]

    @property
    def _compute(self) -> dict[str, Any]:
        return self.run.model_dump(include={"device", "batch_size", "threads"})

    @property
    def _reference(self) -> dict[str, Any]:
        return self.run.dataset.section("reference", self.run.seed) | {"content": self.contents["reference"]}

    def classifier(self) -> Job:
        section, run = self.run.classifier, self.run
        told = section.model_dump(exclude={"layers", "training"})
        told |= {"outputs": section.classes, "classes": len(run.dataset.classes)}
        told["content"] = self.contents["weights"]
        if section.weights in ("untrained", "train"):
            told["seed"] = run.seed
        if section.weights == "train":
            told |= run.model_dump(include={"device", "threads"})
            told |= {"training": section.training.model_dump(), "dataset": self._reference}
        methods = section.code + (self._dataset if "dataset" in told else ())
        return Job("classifier.py", told=told, methods=methods)

    @property
    def _dataset(self) -> tuple[str, ...]:
        return self.run.dataset.code

    def image(self) -> Job:
        section = self.run.dataset.section("test", self.run.seed) | {"content": self.contents["test"]}
        return Job("image.py", told={"dataset": section, "seed": self.run.seed}, methods=self._dataset)

    def attack(self, name: str) -> Job:
        attack = self.attacks[name]
        told = {
            # Its family changes no image.
            "attack": attack.model_dump(exclude={"family"}),
            "seed": self.run.seed,
            "precision": self.run.precision,
        }
        if attack.files:
            told["content"] = self.contents["attacks"][name]
        methods = attack.code + self.run.classifier.code
        if attack.from_reference:
            told["dataset"] = self._reference
            methods += self._dataset
        reads = {"classifier": self.classifier_path, "images": self.images["original"]}
        return Job("attack.py", reads, told | self._compute, methods)

    def control(self, name: str) -> Job:
        entry = self.controls[name]
        # Its family changes no image.
        told = {"control": entry.model_dump(exclude={"family"}), "seed": self.run.seed, "threads": 1}
        return Job("control.py", {"images": self.images["original"]}, told, entry.code)

    def png(self, s: str) -> Job:
        return Job("png.py", {"images": self.images[s], "original": self.images["original"]})

    def activation(self, s: str) -> Job:
        reads = {"classifier": self.classifier_path, "images": self.images[s]}
        told = {"layers": self.layers} | self._compute
        return Job("activation.py", reads, told, self.run.classifier.code)

    def reference_activation(self, shard: int) -> Job:
        # Its own classes' images alone can have changed.
        content = self.contents["reference"]
        classes = folders.shards(len(content), len(self.shards))[shard]
        told = {
            "layers": self.layers,
            "dataset": self._reference | {"content": [content[c] for c in classes]},
            "number": shard,
            "count": len(self.shards),
            "precision": self.run.precision,
        }
        reads = {"classifier": self.classifier_path}
        methods = self._dataset + self.run.classifier.code
        return Job("reference_activation.py", reads, told | self._compute, methods)

    def medoid(self, layer: str) -> Job:
        return Job("medoid.py", {"references": self.references}, {"layer": layer})

    def gaussian(self, layer: str) -> Job:
        told = {"layers": self.joints.get(layer, [layer]), "joint": layer in self.joints}
        return Job("gaussian.py", {"references": self.references}, told)

    def distance(self, representative: str, metric: str, s: str) -> Job:
        reads = {
            "activations": self.activations[s],
            "representatives": getattr(self, REPRESENTATIVES[representative]),
        }
        return Job("distance.py", reads, {"representative": representative, "metric": metric})

    def neighbour(self, s: str) -> Job:
        # One search serves all detectors: the largest k, the union of layers.
        searching = [entry for entry in self.run.detectors if entry.nearest]
        asked = [entry.compared or self.layers for entry in searching]
        told = {
            "layers": [layer for layer in self.layers if any(layer in names for names in asked)],
            "k": max((entry.nearest for entry in searching), default=0),
        }
        reads = {"activations": self.activations[s], "references": self.references}
        return Job("neighbour.py", reads, told)

    def squeeze(self, s: str) -> Job:
        # One pass serves all detectors.
        told = {
            name: sorted({entry.squeezers[name] for entry in self.run.detectors if name in entry.squeezers})
            for name in ("bits", "median")
        }
        reads = {"classifier": self.classifier_path, "images": self.images[s]}
        return Job("squeeze.py", reads, told | self._compute, self.run.classifier.code)

    def preprocess(self, s: str) -> Job:
        # The gradient serves all sizes of the step.
        steps = sorted({shortest(entry.step) for entry in self.run.detectors if entry.step})
        reads = {
            "classifier": self.classifier_path,
            "images": self.images[s],
            "gaussians": self.gaussians,
        }
        told = {"layers": self.layers, "magnitudes": steps} | self._compute
        return Job("preprocess.py", reads, told, self.run.classifier.code)

    def verdict(self) -> Job:
        reads = {"images": list(self.images.values()), "activations": list(self.activations.values())}
        return Job("verdict.py", reads)

    def fold(self) -> Job:
        told = self.run.folds.model_dump() | {"seed": self.run.seed}
        return Job("fold.py", {"images": self.images["original"]}, told)

    def read_by(self, detector: str, *, training: bool = False) -> dict[str, list[str]]:
        """The stores that a detector reads, by stage: another change does not make it run again."""
        entry = self.detectors[detector]
        # What is in the test alone trains nothing again.
        sets = [s for s in self.sets if not training or entry.controls or s not in self.controls]
        every = {
            "activations": [self.activations[s] for s in sets],
            "neighbours": [self.neighbours[s] for s in sets],
            "squeezed": [self.squeezed[s] for s in sets],
            "preprocessed": [self.preprocessed[s] for s in sets],
            "gaussians": self.gaussians,
            "distances": [self.distances[entry.measure][s] for s in sets],
            "joint": [artefact(f"gaussians/{self._joint(entry)}")],
        }
        return {name: every[name] for name in entry.reads}

    def _protocols(self, controls: Mapping[str, Control]) -> dict[str, Any]:
        # Where no protocol asks for families, another one trains nothing again.
        asked = "unknown" in self.run.protocols
        families = {name: attack.kin for name, attack in self.attacks.items()} if asked else None
        of_controls = {name: control.kin if asked else name for name, control in controls.items()}
        told = {"families": families, "controls": of_controls}
        return {"protocols": self.run.protocols} | {key: value for key, value in told.items() if value}

    def train(self, detector: str, seed: int, fold: int) -> Job:
        entry = self.detectors[detector]
        told = {
            "options": entry.model_dump(),
            **self._protocols(self.controls if entry.controls else {}),
            "fold": fold,
            "seed": seed,
            "seeded": entry.seeded,
            "threads": 1,
        }
        reads = self.read_by(detector, training=True) | {"folds": artefact("folds")}
        return Job("train.py", reads, told, entry.code)

    def evaluate(self, detector: str, seed: int, fold: int) -> Job:
        told = {
            "name": detector,
            **self._protocols(self.controls),
            "seed": seed,
            "fold": fold,
            "threads": 1,
        }
        model = self.of_training(detector, seed, fold, "model.pt")
        reads = self.read_by(detector) | {"folds": artefact("folds"), "model": model}
        return Job("evaluate.py", reads, told, self.detectors[detector].code)

    def summary(self) -> Job:
        reads = {"evaluated": self.evaluated, "trained": self.histories, "verdicts": artefact("verdicts")}
        return Job("summary.py", reads, self.run.metrics.model_dump() | {"seed": self.run.seed})

    def bundle(self, detector: str) -> Job:
        entry, seed = self.detectors[detector], self.seeds(detector)[0]
        told = {
            "detector": entry.model_dump(),
            "measure": entry.measure,
            "layers": self.layers,
            "searched": (entry.compared or self.layers) if entry.nearest else [],
            "reads": entry.reads,
            "squeezers": entry.squeezers,
            "step": entry.step,
            "preprocessing": self.run.dataset.preprocessing,
            # Without what changes nothing in it.
            "config": self.run.model_dump(exclude={"dask", "figures", "adaptive", "compare"}),
            "outside": [name for name in (entry.outside, *self.run.classifier.code) if name],
            "dataset": self._reference,
        }
        reads = {
            "classifier": self.classifier_path,
            "images": self.images["original"],
            "activations": self.activations["original"],
            "medoids": self.medoids,
            "references": self.references,
            "models": [self.of_training(detector, seed, fold, "model.pt") for fold in self.folds],
            "scores": [self.of_training(detector, seed, fold, "scores.zarr.zip") for fold in self.folds],
            "summary": artefact("summary"),
        }
        # New images are pre-processed by them, too.
        if not {"gaussians", "preprocessed"}.isdisjoint(entry.reads) or entry.measure[0] == "centroid":
            reads["gaussians"] = self.gaussians
        if "squeezed" in entry.reads:
            reads["squeezed"] = [self.squeezed["original"]]
        if "preprocessed" in entry.reads:
            reads["preprocessed"] = [self.preprocessed["original"]]
        if any(detector == attacked for attacked, *_ in self.adaptations):
            reads["adaptive"] = artefact("adaptive")
        return Job("bundle.py", reads, told, entry.code + self.run.classifier.code + self._dataset)

    def adapt(self, detector: str, method: str, fold: int) -> Job:
        asked = self.run.adaptive.model_dump(exclude={"methods", "detectors", "folds"})
        told = {"attack": asked | {"method": method}, "name": detector, "fold": fold, "seed": self.run.seed}
        reads = {
            "classifier": self.classifier_path,
            "images": self.images["original"],
            "activations": self.activations["original"],
            "distances": self.distances[PAPER_S]["original"],
            "medoids": self.medoids,
            "folds": artefact("folds"),
            "model": self.of_training(detector, self.run.seeds[0], fold, "model.pt"),
        }
        methods = self.detectors[detector].code + self.run.classifier.code
        return Job("adapt.py", reads, told | self._compute, methods)

    def adaptive(self) -> Job:
        return Job("adaptive_table.py", {"adapted": self.adapted})

    @cached_property
    def figures(self) -> dict[str, Job]:
        """What each figure is drawn from, and is told."""
        asked, seed = self.run.figures, self.run.seed
        shown = {"attack": asked.attack}
        drawn = {"detectors": asked.detectors or list(self.detectors)[:6]}
        known = {"scores": artefact("scores"), "metrics": artefact("metrics")}
        outcomes = {"outcomes": artefact("outcomes")}
        attacked = ["original", *self.attacks]
        activations = {"activations": [self.activations[s] for s in attacked]}
        trained = [name for name, entry in self.detectors.items() if "epochs" in type(entry).model_fields]
        figures: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "intervals": ({"summary": artefact("summary")}, {}),
            "path": ({"distances": [self.distances[PAPER_S][s] for s in attacked]} | outcomes, shown),
            "tsne": (
                {"images": self.images["original"], "references": self.references} | activations | outcomes,
                shown | {"size": asked.tsne_images, "seed": seed},
            ),
            "samples": (
                {"images": [self.images[s] for s in attacked]} | activations | outcomes,
                shown | {"count": asked.samples},
            ),
        }
        if "known" in self.run.protocols:
            figures |= {"roc": (known, drawn), "roc-attacks": (known, drawn)}
        if "transfer" in self.run.protocols:
            figures["transfer"] = ({"metrics": artefact("metrics")}, drawn)
        if trained:
            figures["histories"] = ({"histories": artefact("histories")}, {"detectors": trained})
        together = strengths.together(self.run.attacks)
        if together and "known" in self.run.protocols:
            figures["strengths"] = (
                {"metrics": artefact("metrics")} | outcomes,
                drawn
                | {
                    "groups": [[(attack.name, attack.budget) for attack in group] for group in together],
                    "fpr": max(self.run.metrics.fpr),
                },
            )
        if self.controls and "known" in self.run.protocols:
            read = {"metrics": artefact("metrics"), "summary": artefact("summary")}
            figures["controls"] = (read, {"fpr": max(self.run.metrics.fpr)})
        if self.adapted:
            figures["adaptive"] = ({"table": artefact("adaptive"), "adapted": self.adapted}, {})
        jobs = {name: Job("figure.py", read, told | {"name": name}) for name, (read, told) in figures.items()}
        if self.bundles:
            jobs["explained"] = self._explained(next(iter(self.bundles)))
        return jobs

    def _explained(self, detector: str) -> Job:
        """The figure that explains some scores of a detector."""
        bundle = self.bundle(detector)
        told = {"detector": detector, "seed": self.seeds(detector)[0], "trusted": bundle.told["outside"]}
        reads = {
            "bundle": self.bundles[detector],
            "images": [self.images[s] for s in ("original", *self.attacks)],
            "scores": artefact("scores"),
            "verdicts": artefact("verdicts"),
        }
        methods = ("detour.pictures", *self.detectors[detector].code, *self.run.classifier.code)
        return Job("figure.py", reads, told | {"name": "explained"}, methods)

    def report(self) -> Job:
        reads = {
            "figures": [f"<run>/figures/{name}.svg" for name in self.figures],
            "images": self.images["original"],
            "references": self.references,
            **{
                name: artefact(name)
                for name in ("verdicts", "outcomes", "scores", "histories", "metrics", "summary")
            },
            **({"adaptive": artefact("adaptive")} if self.adapted else {}),
        }
        told = {"config": self.run.model_dump(exclude={"dask", "compare"}), "notes": self.contents["leaked"]}
        return Job("report.py", reads, told)

    def leaderboard(self) -> Job:
        reads = {
            "classifier": self.classifier_path,
            "images": self.images["original"],
            **{name: artefact(name) for name in ("outcomes", "metrics", "summary")},
            **({"adaptive": artefact("adaptive")} if self.adapted else {}),
        }
        # Without what changes nothing in it.
        told = {"config": self.run.model_dump(exclude={"dask", "figures", "compare"})}
        return Job("leaderboard.py", reads, told)

    def compare(self) -> Job:
        """The job that puts finished runs beside this one; no part of a run, so that `jobs` is without it.

        Raises
        ------
        InputError
            If there are none.
        """
        if not self.run.compare:
            raise InputError(
                "compare: found no run to compare this one with, expected names of finished runs under"
                " results/; add them to the configuration, as `compare: [another]`"
            )
        runs = ["<run>", *(f"results/{name}" for name in self.run.compare)]
        reads = {name: [f"{run}/{path}" for run in runs] for name, path in COMPARED.items()}
        # Their order is the page's, and Snakemake sorts what a job reads before it looks for a change.
        return Job("compare.py", reads, {"compare": self.run.compare})

    def expected(self, paths: Iterable[str]) -> dict[str, str]:
        """Digests of what artefacts are made with, by their identity; without those that no job makes."""
        known = ((name, self._settings.get(name)) for name in map(identity, paths))
        return {name: found for name, found in known if found}

    @cached_property
    def _settings(self) -> dict[str, str]:
        return {path.removeprefix("<run>/"): asked(job.told) for path, job in self.makers.items()}

    @cached_property
    def makers(self) -> dict[str, Job]:
        """The job that makes an artefact, by its path."""
        beside = {
            artefact("verdicts"): [artefact("outcomes")],
            artefact("scores"): [artefact(name) for name in ("histories", "metrics", "summary")],
        }
        found: dict[str, Job] = {}
        for path, job in self.jobs():
            history = path.replace("/model.pt", "/history.zarr.zip")
            found |= dict.fromkeys([path, history, *beside.get(path, [])], job)
        return found

    def jobs(self) -> Iterator[tuple[str, Job]]:
        """Every job of a run, with the first of what it writes, after those that it reads from."""
        yield self.classifier_path, self.classifier()
        yield self.images["original"], self.image()
        yield from ((self.images[name], self.attack(name)) for name in self.attacks)
        yield from ((self.images[name], self.control(name)) for name in self.controls)
        yield from ((self.activations[s], self.activation(s)) for s in self.sets)
        yield from ((self.references[n], self.reference_activation(n)) for n in self.shards)
        yield artefact("verdicts"), self.verdict()
        yield artefact("folds"), self.fold()
        asked = {path for name in self.detectors for paths in self.read_by(name).values() for path in paths}
        stepped = [(path, self.preprocess(s)) for s, path in self.preprocessed.items() if path in asked]
        asked |= {path for _, job in stepped for path in job.reads["gaussians"]}
        if any(representative == "medoid" for representative, _ in self.distances):
            yield from ((artefact(f"medoids/{layer}"), self.medoid(layer)) for layer in self.layers)
        centroids = any(representative == "centroid" for representative, _ in self.distances)
        for layer in [*self.layers, *self.joints]:
            path = artefact(f"gaussians/{layer}")
            if path in asked or (centroids and layer in self.layers):
                yield path, self.gaussian(layer)
        for (representative, metric), stores in self.distances.items():
            yield from ((path, self.distance(representative, metric, s)) for s, path in stores.items())
        yield from ((path, self.neighbour(s)) for s, path in self.neighbours.items() if path in asked)
        yield from stepped
        yield from ((path, self.squeeze(s)) for s, path in self.squeezed.items() if path in asked)
        for training in self.trainings:
            yield self.of_training(*training, "model.pt"), self.train(*training)
            yield self.of_training(*training, "scores.zarr.zip"), self.evaluate(*training)
        yield artefact("scores"), self.summary()
        yield from zip(self.adapted, (self.adapt(*which) for which in self.adaptations), strict=True)
        if self.adapted:
            yield artefact("adaptive"), self.adaptive()
        yield from ((path, self.bundle(name)) for name, path in self.bundles.items())
        yield from ((f"<run>/figures/{name}.svg", job) for name, job in self.figures.items())
        yield "<run>/report.html", self.report()
        yield "<run>/leaderboard.json", self.leaderboard()
