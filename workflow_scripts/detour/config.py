"""The configuration of a run: read, completed and checked; what no type can say of it is checked here.

Nothing heavy is imported, because every job reads the configuration again. What only torch can tell (the
layers of a model) is asked in a separate process and remembered.
"""

import json
import math
import re
import resource
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from detour import code, outside, strengths
from detour.artefacts import TakenOverError, written
from detour.errors import InputError
from detour.options import detectors
from detour.options.classifier import IN_PLACE, Classifier
from detour.options.explained import explained
from detour.options.run import Run
from detour.spelling import unknown
from detour.weights import WEIGHTS

NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")

# Files that a job has open beside its stores: libraries, sockets of Dask, its log.
OTHER_FILES = 256


class ConfigError(InputError):
    """The configuration cannot be run; the message lists everything that is wrong with it.

    Parameters
    ----------
    problems
        A line each.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"the configuration cannot be run:{lines}")


def load(settings: dict[str, Any], remembered: Path | None = None, *, again: bool = True) -> Run:
    """The options of a run, complete with their defaults, and checked.

    Parameters
    ----------
    settings
        As read from YAML.
    remembered
        JSON file that keeps between runs what code from outside says of itself.
    again
        Whether to look at the files that datasets were read from.

    Raises
    ------
    ConfigError
        With the key, the value found and the values allowed, for everything that is wrong.
    """
    settings, places = strengths.spread(settings)
    try:
        run = Run.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(strengths.placed(explained(error, Run), places)) from None
    if problems := outside.problems(run, remembered, again=again) or _contradictions(run):
        raise ConfigError(strengths.placed(problems, places))
    return run.model_copy(update={"dataset": run.dataset.fitting()})


def misread(path: str | Path) -> list[str]:
    """Lines on what YAML takes for something else than it looks like.

    That are keys that stand twice in one mapping of a YAML or JSON file, whose last alone would count, and
    numbers of another base than ten: 010 is 8, and 1:30 is 90.

    Parameters
    ----------
    path
        A file that could be read as a configuration.
    """
    with Path(path).open(encoding="utf-8") as file:
        # JSON is YAML, but for tabs between its tokens.
        root = yaml.compose(file.read().replace("\t", " "), Loader=yaml.SafeLoader)
    return [f"{path}, line {line}" for line in _misread(root, "")] if root else []


# Of YAML 1.1, octal, binary and sexagesimal; 0x is what it looks like.
OTHER_BASE = re.compile(r"[-+]?(0[0-9_]+|0b[01_]+|[0-9_]+(:[0-9_]+)+(\.[0-9_]*)?)")


def _misread(node: yaml.Node, key: str) -> Iterator[str]:
    if isinstance(node, yaml.ScalarNode):
        if node.tag in NUMBERS and OTHER_BASE.fullmatch(node.value):
            number = yaml.safe_load(node.value)
            yield (
                f"{node.start_mark.line + 1}: `{key}`: found {node.value}, which YAML reads as {number};"
                f" write {number}, or '{node.value}' in quotes where it is text"
            )
    elif isinstance(node, yaml.SequenceNode):
        for i, entry in enumerate(node.value):
            yield from _misread(entry, f"{key}[{i}]")
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for name, value in node.value:
            line = name.start_mark.line + 1
            inner = f"{key}.{name.value}".lstrip(".")
            if name.value in first:
                yield (
                    f"{line}: `{inner}` stands for the second time, after line {first[name.value]},"
                    " expected once; join the two"
                )
            first[name.value] = line
            yield from _misread(value, inner)


def layers(run: Run, remembered: Path, content: str = "") -> list[str]:
    """Names of the layers that are compared, after a look at the network.

    Parameters
    ----------
    remembered
        JSON file that keeps the answer between runs.
    content
        Digest of the file of weights, if there is one.

    Raises
    ------
    ConfigError
        If there is no such model, or it has no such weights or layers, its weights do not fit, it does not
        take images of that size or give a logit for each class, or what a layer puts out cannot be compared.
    """
    section, question = run.classifier, _question(run, content)
    # What else the answer depends on.
    by = {
        "torchvision": version("torchvision"),
        "code": code.digest(Path(__file__).with_name("classifiers.py")),
    }
    try:
        by |= {reference: code.outside(reference) for reference in section.code}
    except InputError as error:
        raise ConfigError([f"classifier.model: {error}"]) from None
    # A file that was cut, or of an earlier version, is written anew.
    with suppress(OSError, ValueError, LookupError, TypeError):
        answer = json.loads(remembered.read_text("utf-8"))
        if (answer["question"], answer["by"]) == (question, by) and _are_names(answer["layers"]):
            return answer["layers"]
    found = _looked_at(question)["layers"]
    # Another Snakemake may ask at the same moment, and gets the same answer.
    with suppress(TakenOverError), written(remembered) as path:
        path.write_text(json.dumps({"question": question, "by": by, "layers": found}))
    return found


def modules(run: Run) -> list[list[str]]:
    """Name, class and shape of what each module of the network puts out, and whether `auto` takes it."""
    return _looked_at(_question(run, "") | {"every": True})["modules"]


def _question(run: Run, content: str) -> dict[str, Any]:
    dataset, section = run.dataset, run.classifier
    asked_of = {"model", "options", "weights", "layers", "transform_input"}
    return section.model_dump(include=asked_of) | {
        "outputs": section.classes,
        "channels": len(section.mean),
        "start": section.training.start if section.weights == "train" else None,
        "classes": len(dataset.classes),
        "size": dataset.pixels,
        "key": f"dataset.{dataset.side}",
        "content": content,
    }


def _looked_at(question: dict[str, Any]) -> dict[str, Any]:
    """What `detour.classifiers` answers."""
    asked = outside.answered("detour.classifiers", json.dumps(question))
    if asked.returncode:
        said = asked.stderr.strip().splitlines() or [f"it ended with {asked.returncode}"]
        raise ConfigError([f"classifier: cannot look into {question['model']!r}: {said[-1]}"])
    found = json.loads(outside.answer_of(asked))
    if "problems" in found:
        raise ConfigError(found["problems"])
    return found


def _are_names(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(name, str) for name in found)


def among(run: Run, names: list[str]) -> Run:
    """The options of a run with the names of its layers in place of `last`.

    Raises
    ------
    ConfigError
        If a detector names one that is not among them.
    """
    try:
        entries = [entry.among(names, f"detectors[{i}]") for i, entry in enumerate(run.detectors)]
    except InputError as error:
        raise ConfigError([str(error)]) from None
    return run.model_copy(update={"detectors": entries})


def _contradictions(run: Run) -> list[str]:
    """What no type can say."""
    return [
        *_repeated(run),
        *_entries(run),
        *_weights(run.classifier),
        *_channels(run.classifier),
        *_outputs(run),
        *_packaged(run),
        *_images(run),
        *_figures(run),
        *_adaptive(run),
        *_compare(run),
        *_files(run),
    ]


# What sets and rows of tables are called besides.
RESERVED = ["original", "reference", "all", "mean", "unchanged"]


def _repeated(run: Run) -> Iterator[str]:
    for section, entries, reserved in (
        ("attacks", run.attacks, RESERVED),
        ("controls", run.controls, RESERVED),
        ("detectors", run.detectors, []),
    ):
        for name, count in Counter(entry.name for entry in entries).items():
            if count > 1:
                yield f"{section}: the name {name!r} stands {count} times; every entry needs its own"
            if name in reserved:
                yield f"{section}: the name {name!r} is taken by the workflow; choose another"
    attacks = {attack.name for attack in run.attacks}
    for i, control in enumerate(run.controls):
        if control.name in attacks:
            yield f"controls[{i}].name: found {control.name!r}, the name of an attack; choose another"


def _entries(run: Run) -> Iterator[str]:
    for i, attack in enumerate(run.attacks):
        for key, problem in attack.problems():
            yield f"attacks[{i}].{key}: {problem}"
    for i, protocol in enumerate(run.protocols):
        if protocol != "known" and len(run.attacks) < 2:
            yield f"protocols[{i}]: found {protocol!r}, which needs at least two attacks; allowed: known"
        elif protocol == "unknown" and len(families := {attack.kin for attack in run.attacks}) < 2:
            yield (
                f"protocols[{i}]: found 'unknown', which leaves out all attacks of a family at a time, and"
                f" all are of {families.pop()!r}; add another attack, or give them a `family` each"
            )
    for i, detector in enumerate(run.detectors):
        if detector.controls and not run.controls:
            yield (
                f"detectors[{i}].controls: found true, and there are no `controls`, which would be genuine"
                " images of its training; add some, or leave it out"
            )


def _weights(classifier: Classifier) -> Iterator[str]:
    weights, file, made = classifier.weights, classifier.file, bool(classifier.code)
    if file is not None and not Path(file).is_file():
        kind = "which is a folder" if Path(file).is_dir() else f"and no such file in {Path.cwd()}"
        if weights == "train":
            yield f"classifier.training.start: found {file!r}, {kind}; allowed: the path of a checkpoint"
            return
        yield (
            f"classifier.weights: found {weights!r}, {kind}; allowed: train,"
            " untrained, the name of weights in capitals (DIGITS of small_resnet, IMAGENET1K_V1 of"
            " torchvision), the path of a checkpoint, or already where a function makes the network"
        )
    if weights == "already" and not made:
        yield (
            f"classifier.weights: found 'already', and {classifier.model} is made with random weights;"
            " allowed for a function in classifier.model that loads them"
        )
    if made and file is None and weights not in IN_PLACE:
        yield (
            f"classifier.weights: found {weights!r}, a name of weights, and the network is made by"
            f" {classifier.model}; allowed: {', '.join(IN_PLACE)}, or the path of a checkpoint"
        )
    if classifier.options and not made:
        yield (
            f"classifier.options: found {', '.join(classifier.options)}, and {classifier.model} is made by no"
            " function, which alone takes any; leave them out"
        )


def _channels(classifier: Classifier) -> Iterator[str]:
    lengths = len(classifier.mean), len(classifier.std)
    if lengths not in ((1, 1), (3, 3)):
        yield (
            f"classifier.mean: found {lengths[0]} numbers, and {lengths[1]} of classifier.std; allowed: 3 of"
            " each, or 1 of each for a network that takes one channel"
        )


def _outputs(run: Run) -> Iterator[str]:
    picked = run.classifier.classes
    # The folder of the classes may not be there, which is told by itself.
    if picked is None or run.dataset.problems():
        return
    if run.classifier.weights in ("train", "untrained"):
        yield (
            f"classifier.classes: found a choice, and with `weights: {run.classifier.weights}` every output"
            " is a class of the reference; leave it out"
        )
    if len(picked) != (classes := len(run.dataset.classes)):
        yield (
            f"classifier.classes: found {len(picked)} outputs, allowed: {classes}, one per class of the"
            " reference"
        )


def _packaged(run: Run) -> Iterator[str]:
    """Where weights of this project do not fit the run, or would be tested on what they were trained on."""
    model, name = run.classifier.model, run.classifier.weights
    own = WEIGHTS.get(model, {}).get(name)
    if not own:
        return
    for section, keys in own.requires.items():
        for key, expected in keys.items():
            found = getattr(getattr(run, section), key, None)
            if found != expected:
                yield (
                    f"{section}.{key}: found {found!r}, and the weights {name} of {model} were trained with"
                    f" {expected!r}; use that, or `classifier.weights: train`"
                )
    test = getattr(run.dataset, "test", None)
    if isinstance(test, int) and test > own.held_out:
        yield (
            f"dataset.test: found {test}, allowed: at most {own.held_out}, as the weights {name} of {model}"
            " were trained on all other images; use fewer, or `classifier.weights: train`"
        )


def _images(run: Run) -> Iterator[str]:
    dataset, groups = run.dataset, 2 * run.folds.count
    if problems := dataset.problems():
        yield from problems
        return
    yield from _nearest(run)
    yield from _covariance(run)
    try:
        counts = dataset.test_counts()
    except ValueError as error:
        yield from str(error).splitlines()
        return
    classes = len(dataset.classes)
    if dataset.fitting().shards > classes:
        yield f"dataset.shards: found {dataset.shards}, allowed: at most one per class, {classes}"
    total, where = sum(counts.values()), min(counts, key=lambda name: counts[name])
    fpr = run.adaptive.fpr
    if run.adaptive.methods and total // groups < (needed := math.ceil(1 / fpr) - 1):
        yield (
            f"adaptive.fpr: found {fpr}, which needs {needed} validation images in a fold, and"
            f" {total} test images in {groups} groups are {total // groups}; use a higher rate, fewer folds"
            " or more test images"
        )
    if run.folds.stratify == "class" and counts[where] < groups:
        yield (
            f"folds.count: found {groups // 2}, which deals each class into {groups} groups, and a class"
            f" of the test images ({where}) has {counts[where]}; allowed: at most {counts[where] // 2}, or"
            " any with `folds.stratify: none`"
        )
    elif total < groups:
        yield f"folds.count: found {groups // 2}, allowed: at most half the {total} test images"
    training = total - 2 * -(-total // groups)
    for i, detector in enumerate(run.detectors):
        for key, problem in detector.problems(training):
            yield f"detectors[{i}].{key}: {problem}"


def _covariance(run: Run) -> Iterator[str]:
    """Where a covariance is asked for, and there is one image a class, about whose mean nothing varies."""
    reading = [
        i for i, d in enumerate(run.detectors) if {"gaussians", "joint", "preprocessed"} & set(d.reads)
    ]
    classes = len(run.dataset.classes)
    if reading and run.dataset.reference_count(enough=classes + 1) <= classes:
        for i in reading:
            yield (
                f"detectors[{i}]: {run.detectors[i].method} needs the covariance of the reference, which one"
                " image of each class does not have; add reference images, or leave the detector out"
            )


def _nearest(run: Run) -> Iterator[str]:
    """Where more neighbours are asked for than there are reference images."""
    wanted = {i: detector.nearest for i, detector in enumerate(run.detectors) if detector.nearest}
    if not wanted:
        return
    count = run.dataset.reference_count(enough=max(wanted.values()))
    for i, k in wanted.items():
        if k > count:
            yield f"detectors[{i}].k: found {k}, allowed: at most the {count} reference images"


def warnings(run: Run) -> list[str]:
    """What to say before a run starts; none of it stops the run."""
    found = []
    if run.classifier.weights == "untrained":
        found.append("classifier.weights: untrained: the figures show that everything fits together, no more")
    if run.classifier.weights == "train":
        found.append(
            "classifier.weights: train: all figures and their intervals hold for the classifier that this run"
            " trains; another seed, kind of processor, number of `threads` or version of PyTorch trains"
            " another, whose figures can lie outside of them"
        )
    knowing = [detector.name for detector in run.detectors if detector.controls]
    alike = {control.method: control.name for control in run.controls}
    found += [
        f"attacks: {attack.name} and the control {alike[attack.method]} are made alike, and"
        f" {', '.join(knowing)} learn that the one is adversarial and the other genuine; leave one of them"
        " out"
        for attack in run.attacks
        if knowing and attack.method in alike
    ]
    return [*found, *run.dataset.notes()]


def _figures(run: Run) -> Iterator[str]:
    asked = {
        "attack": [run.figures.attack] if run.figures.attack else [],
        "detectors": run.figures.detectors or [],
    }
    for key, entries in (("attack", run.attacks), ("detectors", run.detectors)):
        names = [entry.name for entry in entries]
        yield from (unknown(f"figures.{key}", name, names) for name in asked[key] if name not in names)


def _adaptive(run: Run) -> Iterator[str]:
    section, names = run.adaptive, [entry.name for entry in run.detectors if entry.attackable]
    if not section.methods:
        return
    if not names:
        methods = [name for name, option in detectors.METHODS.items() if option.differentiable]
        yield (
            f"adaptive.methods: found {section.methods}, which need a detector that has a gradient, and"
            f" there is none; allowed: no methods, or a detector of method {' or '.join(methods)}, and"
            " where it reads distances, of L2 distances to medoids"
        )
    for name in section.detectors or []:
        if names and name not in names:
            yield unknown("adaptive.detectors", name, names)
    if "known" not in run.protocols:
        yield "adaptive.methods: attack a detector of the protocol known; add it to `protocols`"
    for fold in section.folds:
        if fold >= run.folds.count:
            yield f"adaptive.folds: found {fold}, allowed: 0 to {run.folds.count - 1}"


def _compare(run: Run) -> Iterator[str]:
    if run.run in run.compare:
        yield (
            f"compare[{run.compare.index(run.run)}]: found {run.run!r}, this run, which is always the first;"
            " leave it out"
        )


def _files(run: Run) -> Iterator[str]:
    """Where a job would open more files than a process may."""
    needed, (_, hard) = _needed_files(run), resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        yield (
            f"dataset.shards: found {run.dataset.shards}, beside {len(run.attacks)} attacks and"
            f" {len(run.controls)} controls,"
            f" for which a job opens up to {needed} files, and a process may open {hard} here (`ulimit -Hn`);"
            " use fewer shards, or raise that limit"
        )


def _needed_files(run: Run) -> int:
    return 2 * max(run.dataset.shards, 1 + len(run.attacks) + len(run.controls)) + OTHER_FILES


def allow_files(run: Run) -> None:
    """Raise this process's limit of open files to what a job needs, which inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and (needed := _needed_files(run)) > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
