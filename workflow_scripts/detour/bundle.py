"""Bundles: a detector and all that it needs to score images, as a folder that works without the workflow.

Tensors are in safetensors, everything else is JSON, and a manifest has the SHA-256 of each file: nothing in a
bundle is run when it is read, and what is read is what was written.
"""

import base64
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from detour import artefacts, code, methods, states, store, tables, typical
from detour.classifiers import sha256
from detour.datasets import Known
from detour.errors import InputError, of
from detour.protocols import ALL
from detour.spelling import quoted
from detour.store import ORIGINAL, Made

# Of what is in a bundle and where; a bundle of another is not read.
FORMAT = 3

MANIFEST, ABOUT, CARD = "manifest.json", "about.json", "README.md"
NETWORK, CLASSES, FOLDS = "network.safetensors", "classes.safetensors", "folds.safetensors"
GENUINE, EXAMPLES = "genuine.safetensors", "examples.safetensors"

# The case whose detectors are in it: they know every attack of the run.
PROTOCOL = "known"

REMEDY = "make it again (`snakemake` with the run's configuration), or copy it again"


def write(
    out: str | Path, *,
    classifier: str | Path, images: str | Path, activations: str | Path, medoids: Sequence[str | Path],
    references: Sequence[str | Path], models: Sequence[str | Path], scores: Sequence[str | Path],
    summary: str | Path, gaussians: Sequence[str | Path] = (), squeezed: Sequence[str | Path] = (),
    preprocessed: Sequence[str | Path] = (), dataset: Known, detector: dict[str, Any], reads: list[str],
    layers: list[str], searched: list[str], squeezers: dict[str, int], step: float, outside: list[str],
    made: Made, adaptive: str | Path | None = None, **settings: Any,
) -> None:  # fmt: skip
    """Put a detector into a folder.

    Parameters
    ----------
    images
        The store of the test images, for the names of the classes.
    medoids, gaussians
        Stores by layer, in the order of the data.
    models, scores
        The detector's states and scores, by fold.
    activations
        The store of theirs, of the originals.
    references
        Stores of the reference activations.
    squeezed, preprocessed
        Those of the originals, if the detector reads them.
    dataset
        For pictures of some reference images.
    detector
        Its entry in the configuration.
    reads
        What it reads of a run.
    searched
        Layers at which it looks for neighbours.
    squeezers, step
        How it has images squeezed or moved before it looks at them.
    outside
        References of code from outside that it needs.
    adaptive
        The table of attacks on detectors, if this one was attacked.
    settings
        Further ones that the reader needs: `measure`, `preprocessing`, `config`.
    """
    sources = [
        classifier, images, activations, *squeezed, *preprocessed, *medoids, *models, *scores, summary,
        *([adaptive] if adaptive else []),
        *gaussians, *references,
    ]  # fmt: skip
    provenance = store.attributes_of(made, sources)
    saved = states.load(classifier)
    tensors: dict[str, Tensor] = {}
    folds = []
    for fold, (model, table) in enumerate(zip(models, scores, strict=True)):
        state = states.load(model)["states"][f"{PROTOCOL} {ALL}"]
        folds.append(_plain(state, f"fold-{fold}", tensors))
        tensors[calibration(fold)] = torch.from_numpy(_genuine(tables.read(table)))
    # New images are pre-processed by them, too.
    whole = not {"gaussians", "preprocessed"}.isdisjoint(reads)
    examples, names = typical.examples(references, medoids, dataset)
    genuine = typical.genuine(activations, medoids, squeezers, step, squeezed, preprocessed)
    copied = references if searched else []
    name = detector["name"]
    rows = tables.read(summary)
    # Not above: what only writes a bundle makes no reader wait.
    from detour import findings
    from detour.options.run import Run

    evaded = tables.read(adaptive) if adaptive else None
    known = findings.evasion(evaded, name, Run.model_validate(settings["config"]))
    about = {
        **settings,
        "detector": detector,
        "reads": reads,
        "layers": layers,
        "searched": searched,
        "squeezers": squeezers,
        "step": step,
        "references": len(copied),
        "examples": names,
        "network": {key: value for key, value in saved.items() if key != "state"},
        "classes": store.read(images).attrs["classes"],
        "folds": folds,
        "calibration": sum(len(tensors[calibration(fold)]) for fold in range(len(folds))),
        "outside": {reference: _source(reference) for reference in outside},
        "made": {key: provenance[key] for key in ("code", "sources", "versions")},
    }
    with artefacts.folder(out) as part:
        save_file(_contiguous(saved["state"]), part / NETWORK)
        save_file(_of_classes(medoids, gaussians, whole), part / CLASSES)
        save_file(tensors, part / FOLDS)
        save_file(_tensors(genuine), part / GENUINE)
        save_file(_tensors(examples), part / EXAMPLES)
        for number, path in enumerate(copied):
            shard = store.read(path)
            arrays = {layer: shard[layer][:] for layer in searched} | {"label": shard["label"][:]}
            save_file(_tensors(arrays), part / reference(number))
        _dump(part / ABOUT, about)
        (part / CARD).write_text(card(name, about, rows[rows["detector"] == name], known), "utf-8")
        files = {path.name: sha256(path) for path in sorted(part.iterdir())}
        _dump(part / MANIFEST, {"format": FORMAT, "detour": _release(), "files": files})


def calibration(fold: int) -> str:
    """Name of the scores that the detector of a fold gave to genuine images, ascending."""
    return f"calibration-{fold}"


def reference(number: int) -> str:
    """Name of the file of a shard of the reference."""
    return f"reference-{number}.safetensors"


def _genuine(scores: pd.DataFrame) -> np.ndarray:
    """Scores of the originals of a fold's test, which its detector has not seen: float64 [n], ascending."""
    wanted = (scores["protocol"] == PROTOCOL) & (scores["role"] == "test") & (scores["set"] == ORIGINAL)
    return np.sort(scores["score"][wanted].to_numpy(np.float64))


def _of_classes(
    medoids: Sequence[str | Path], gaussians: Sequence[str | Path], whole: bool
) -> dict[str, Tensor]:
    """What each class has at each layer; of Gaussians the mean alone, unless they are read whole."""
    found = {}
    for path in medoids:
        group = store.read(path)
        found[f"medoid/{group.attrs['layer']}"] = torch.from_numpy(group["medoid"][:])
    for path in gaussians:
        group = store.read(path)
        for name in group.array_keys() if whole else ["mean"]:
            found[f"{name}/{group.attrs['layer']}"] = torch.from_numpy(group[name][:])
    return found


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with memory of their own, as safetensors takes them."""
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }


def _plain(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A value of a state as JSON has it; tensors are put among the others under a name that tells them."""
    if isinstance(value, Tensor):
        while name in tensors:
            name += "'"
        tensors |= _contiguous({name: value})
        return {"tensor": name}
    if isinstance(value, dict):
        # Pairs: keys of JSON are all text.
        return {"dict": [[key, _plain(each, f"{name}.{key}", tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        items = [_plain(each, f"{name}.{i}", tensors) for i, each in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    return value


def _state(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value that `_plain` made this of."""
    if isinstance(plain, list):
        return [_state(each, tensors) for each in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, value),) = plain.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {key: _state(each, tensors) for key, each in value}
    return base64.b64decode(value) if kind == "bytes" else tuple(_state(each, tensors) for each in value)


def _source(reference: str) -> str:
    """What code from outside means, whatever libraries are beside it; of a file, the digest alone."""
    found = code.outside(reference)
    return found.split()[0] if methods.split(reference)[0].endswith(".py") else found


def _release() -> str:
    try:
        return version("detour")
    # The workflow runs without being installed.
    except PackageNotFoundError:
        return "of a checkout"


def _dump(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def card(name: str, about: Mapping[str, Any], summary: pd.DataFrame, known: str) -> str:
    """What a person should know of a bundle, in Markdown.

    Parameters
    ----------
    about
        What is in `about.json`.
    summary
        The detector's rows of the summary.
    known
        What an attacker who knows the detector achieves.
    """
    config, fitted = about["config"], about["preprocessing"]
    model, dataset, count = config["classifier"]["model"], config["dataset"]["name"], about["calibration"]
    shown = summary[summary["population"] == ALL]
    lines = []
    for protocol in shown["protocol"].unique():
        of = shown[shown["protocol"] == protocol].set_index("measure")
        auc, worst = of.loc["auc"], of.loc["worst"]
        lines.append(f"| {protocol} | {_interval(auc)} | {worst['cell']} | {_interval(worst)} |")
    return "\n".join([
        f"# {name}",
        "",
        f"Detector `{name}` ({about['detector']['method']}) of adversarial images for `{model}` on"
        f" `{dataset}`, {len(about['classes'])} classes, of the run `{config['run']}`. Layers:"
        f" {', '.join(about['layers'])}.",
        "",
        "| protocol | AUC | worst cell | its AUC |",
        "|---|---|---|---|",
        *lines,
        "",
        "AUCs are over all attacked test images against all originals, with 95 % intervals. Under `known` the"
        " detector has learned from every attack that it is tested on, under `unknown` from none of their"
        f" family. Other attacks may do better than any of them, and {known}.",
        "",
        *_false_alarms(summary),
        f"Attacks in its training: {', '.join(attack['name'] for attack in config['attacks'])}.",
        "",
        f"{len(about['folds'])} detectors, one a fold, score an image; its p-value compares that with the"
        f" scores of {count} genuine images, so it is at least {1 / (count + 1):.2g}. It holds for genuine"
        " images that are like the run's.",
        "",
        f"Images: the shorter side is resized to {fitted['resize']} pixels, and a square of"
        f" {fitted['crop']} cut from the centre.",
        "",
    ])  # fmt: skip


def _false_alarms(summary: pd.DataFrame) -> list[str]:
    """What is flagged of genuine images that something harmless changed; nothing where the run has none."""
    harmless = summary[(summary["population"] == "harmless") & (summary["protocol"] == PROTOCOL)]
    worst = harmless[harmless["measure"].str.startswith("worst_control@")].dropna(subset="value")
    lines = [
        f"At the threshold for {100 * float(row['measure'].partition('@')[2]):g} % false positives it flags"
        f" {_interval(row)} of the harmless images of the worst control, {row['cell']}: false alarms."
        for row in worst.to_dict("records")
    ]
    return [*lines, ""] if lines else []


def _interval(row: Any) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


class Bundle:
    """A bundle that was read and found to be whole.

    Attributes
    ----------
    path
        Its folder.
    about
        What is in `about.json`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._check()
        self.about: dict[str, Any] = json.loads((self.path / ABOUT).read_text("utf-8"))

    def allow(self, trusted: Collection[str]) -> None:
        """Refuse code from outside that is not trusted, as a bundle could name any, or is not what it was.

        Parameters
        ----------
        trusted
            References of what may be run.
        """
        for named in filter(
            methods.is_reference, [self.about["network"]["model"], self.about["detector"]["method"]]
        ):
            if named not in trusted:
                raise InputError(
                    f"{self.path}: runs code from outside, {named}, which is not trusted; if you know"
                    " where the bundle is from, name it (`--trust`, or `trusted` of `Detector.load`)"
                )
            with of(self.path):
                found = _source(named)
            if found != (digest := self.about["outside"].get(named)):
                raise InputError(
                    f"{self.path}: {named} is another than it was made with (found {found}, expected"
                    f" {digest}); use it as it was, or make the bundle again"
                )

    def _check(self) -> None:
        try:
            manifest = json.loads((self.path / MANIFEST).read_text("utf-8"))
            found, files = manifest["format"], manifest["files"].items()
        except OSError as error:
            raise InputError(
                f"{self.path}: found no {MANIFEST} that can be read ({error.strerror}), expected the folder"
                " of a bundle, `results/RUN/detectors/DETECTOR/bundle`"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.path / MANIFEST}: is damaged ({error}), expected a manifest as it was"
                f" written; {REMEDY}"
            ) from None
        if found != FORMAT:
            raise InputError(
                f"{self.path}: is of format {quoted(found)} (detour {manifest.get('detour')}), expected"
                f" {FORMAT}; read it with the release that wrote it, or make it again with this one"
            )
        for name, digest in files:
            try:
                actual = sha256(self.path / name)
            except OSError as error:
                raise InputError(
                    f"{self.path / name}: cannot be read ({error.strerror}), expected a file of the bundle;"
                    f" {REMEDY}"
                ) from None
            if actual != digest:
                raise InputError(
                    f"{self.path / name}: is damaged (SHA-256 {actual}, expected {digest}); {REMEDY}"
                )

    @property
    def card(self) -> str:
        return (self.path / CARD).read_text("utf-8")

    @property
    def network(self) -> dict[str, Any]:
        """What `detour.classifiers.built` takes."""
        return {**self.about["network"], "state": load_file(self.path / NETWORK)}

    @cached_property
    def of_classes(self) -> dict[str, np.ndarray]:
        """`medoid/LAYER`, and where it is read `mean/LAYER` and the like: [C, N_l] and others."""
        return {name: tensor.numpy() for name, tensor in load_file(self.path / CLASSES).items()}

    @cached_property
    def genuine(self) -> dict[str, np.ndarray]:
        """See `detour.typical.genuine`."""
        return {name: tensor.numpy() for name, tensor in load_file(self.path / GENUINE).items()}

    @cached_property
    def examples(self) -> dict[str, np.ndarray]:
        """See `detour.typical.examples`; their names are `about["examples"]`."""
        return {name: tensor.numpy() for name, tensor in load_file(self.path / EXAMPLES).items()}

    def folds(self) -> Iterator[tuple[Any, np.ndarray]]:
        """The state of each fold's detector, and its scores of genuine images, float64 [n], ascending."""
        tensors = load_file(self.path / FOLDS)
        for fold, plain in enumerate(self.about["folds"]):
            yield _state(plain, tensors), tensors[calibration(fold)].numpy()

    def references(self, layer: str, entries: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Activations float32 [R, N_l] and labels int64 [R] of the reference, in blocks of `entries`."""
        for number in range(self.about["references"]):
            with safe_open(self.path / reference(number), framework="np") as file:
                label, x = file.get_tensor("label"), file.get_slice(layer)
                rows, width = x.get_shape()
                step = max(1, entries // width)
                for start in range(0, rows, step):
                    block = slice(start, min(rows, start + step))
                    yield x[block], label[block]
