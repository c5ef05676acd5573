"""The configuration of a run: the schema has defaults and types; checks that it cannot express are here.

Nothing heavy is imported, because every job reads the configuration again. What only torch can tell (the
layers of a model) is asked in a separate process and remembered.
"""

import json
import math
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from copy import deepcopy
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from detour import code, folders
from detour.artefacts import TakenOverError, written
from detour.errors import InputError
from detour.spelling import listed, quoted, unknown
from detour.weights import WEIGHTS

Config = dict[str, Any]

# Class sizes of scikit-learn's load_digits, which never change: 1,797 images, the rarest class has 174.
DIGITS, DIGITS_RAREST = 1797, 174

# Methods of detectors with a gradient, which have `logits`.
DIFFERENTIABLE = ("lstm", "mlp", "logistic", "fisher", "fisher_mlp")

# As JSON schema has it, 100.0 is an integer, which is none to a loop of Python.
Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, found: type(found) is int),
)

# Files that a job has open beside its stores: libraries, sockets of Dask, its log.
OTHER_FILES = 256


class ConfigError(InputError):
    """The configuration cannot be run; the message lists everything that is wrong with it."""


def load(config: Config, schema: Config) -> Config:
    """Complete a configuration with the defaults of the schema and check it.

    Parameters
    ----------
    config
        As read from YAML.
    schema
        JSON schema (2020-12) of it.

    Returns
    -------
    dict
        A new configuration that has every key.

    Raises
    ------
    ConfigError
        With the key, the value found and the values allowed, for everything that is wrong.
    """
    config = _with_defaults(config, schema, schema)
    errors = Validator(schema).iter_errors(config)
    # What follows reads keys that only a configuration of the right shape has.
    _raise([*_infinite(config), *(line for error in errors for line in _explain(error, schema))])
    _raise(_contradictions(config))
    return config


def repeated(path: str | Path) -> list[str]:
    """Lines on keys that stand twice in one mapping of a YAML or JSON file, whose last alone would count.

    Parameters
    ----------
    path
        A file that could be read as a configuration.
    """
    with Path(path).open(encoding="utf-8") as file:
        # JSON is YAML, but for tabs between its tokens.
        root = yaml.compose(file.read().replace("\t", " "), Loader=yaml.SafeLoader)
    return [f"{path}, {line}" for line in _repeated_keys(root, "")] if root else []


def _repeated_keys(node: yaml.Node, key: str) -> Iterator[str]:
    if isinstance(node, yaml.SequenceNode):
        for i, entry in enumerate(node.value):
            yield from _repeated_keys(entry, f"{key}[{i}]")
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for name, value in node.value:
            line = name.start_mark.line + 1
            inner = f"{key}.{name.value}".lstrip(".")
            if name.value in first:
                yield (
                    f"line {line}: `{inner}` stands for the second time, after line {first[name.value]},"
                    " expected once; join the two"
                )
            first[name.value] = line
            yield from _repeated_keys(value, inner)


def layers(config: Config, remembered: Path) -> list[str]:
    """Names of the layers that are compared, after a look at the network.

    Parameters
    ----------
    config
        The whole configuration.
    remembered
        JSON file that keeps the answer between runs.

    Raises
    ------
    ConfigError
        If there is no such model, or it has no such weights or layers, does not take images of that size,
        does not give a logit for each class, or if what a layer puts out cannot be compared.
    """
    section, dataset = config["classifier"], config["dataset"]
    size = "size" if dataset["name"] == "digits" else "crop"
    question = {key: section[key] for key in ("model", "weights", "layers", "transform_input")} | {
        "classes": class_count(dataset),
        "size": dataset[size],
        "key": f"dataset.{size}",
    }
    # What else the answer depends on.
    by = {
        "torchvision": version("torchvision"),
        "code": code.digest(Path(__file__).with_name("classifiers.py")),
    }
    # A file that was cut, or of an earlier version, is written anew.
    with suppress(OSError, ValueError, LookupError, TypeError):
        answer = json.loads(remembered.read_text())
        if (answer["question"], answer["by"]) == (question, by) and _are_names(answer["layers"]):
            return answer["layers"]
    asked = subprocess.run(
        [sys.executable, "-m", "detour.classifiers"],
        input=json.dumps(question),
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        said = asked.stderr.strip().splitlines() or [f"it ended with {asked.returncode}"]
        _raise([f"classifier: cannot look into {section['model']!r}: {said[-1]}"])
    found = json.loads(asked.stdout)
    _raise(found.get("problems", ()))
    # Another Snakemake may ask at the same moment, and gets the same answer.
    with suppress(TakenOverError), written(remembered) as path:
        path.write_text(json.dumps({"question": question, "by": by, "layers": found["layers"]}))
    return found["layers"]


def _are_names(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(name, str) for name in found)


def layer(name: str, names: list[str], where: str) -> str:
    """Resolve `last` and check the name of a layer."""
    if name == "last":
        return names[-1]
    if name not in names:
        _raise([unknown(where, name, names)])
    return name


def table(schema: Config) -> str:
    """Markdown table of every key with its default and meaning, for docs/configuration.md."""
    rows = [f"| `{key}` | `{default}` | {text} |" for key, default, text in _rows(schema, schema, "")]
    return "\n".join(["| key | default | meaning |", "| --- | --- | --- |", *rows])


def _rows(schema: Config, root: Config, key: str) -> Iterator[tuple[str, str, str]]:
    schema = _resolved(schema, root)
    options = schema.get("items", schema).get("oneOf", ())
    for option in options:
        option = _resolved(option, root)
        field, value = _kind(option)
        yield key, f"{field}: {value}", option["description"]
        for name, child in option["properties"].items():
            if name != field:
                yield from _rows(child, root, f"{key}.{name}")
    for name, child in schema.get("properties", {}).items():
        yield from _rows(child, root, f"{key}.{name}".lstrip("."))
    if not options and "properties" not in schema:
        default = json.dumps(schema["default"]) if "default" in schema else "required"
        yield key, default, schema["description"]


def _resolved(schema: Config, root: Config) -> Config:
    """Follow a `$ref`; keys beside it win."""
    if "$ref" not in schema:
        return schema
    target = root
    for part in schema["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**target, **{k: v for k, v in schema.items() if k != "$ref"}}


def _kind(option: Config) -> tuple[str, str]:
    """The key and the value that distinguish an option of `oneOf` from the others."""
    return next((k, child["const"]) for k, child in option["properties"].items() if "const" in child)


def _chosen(value: Any, schema: Config, root: Config) -> Config | None:
    """The option of `oneOf` that `value` names."""
    for option in schema.get("oneOf", ()):
        option = _resolved(option, root)
        field, name = _kind(option)
        if isinstance(value, dict) and value.get(field) == name:
            return option
    return None


def _with_defaults(value: Any, schema: Config, root: Config) -> Any:
    schema = _resolved(schema, root)
    schema = _chosen(value, schema, root) or schema
    if isinstance(value, dict):
        value = dict(value)
        for name, child in schema.get("properties", {}).items():
            child = _resolved(child, root)
            if "default" in child:
                value.setdefault(name, deepcopy(child["default"]))
            if name in value:
                value[name] = _with_defaults(value[name], child, root)
    elif isinstance(value, list) and "items" in schema:
        value = [_with_defaults(item, schema["items"], root) for item in value]
    return value


def _explain(error: ValidationError, root: Config, at: str = "") -> list[str]:
    """Lines for one violation: the key, what was found, what is allowed, the nearest spelling."""
    key = at + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
    found, rule = error.instance, error.validator_value
    match error.validator:
        case "oneOf":
            option = _chosen(found, error.schema, root)
            if option:
                # Checked alone, so that the other options report nothing.
                inner = Validator({"$defs": root["$defs"], **option}).iter_errors(found)
                return [line for e in inner for line in _explain(e, root, key)]
            kinds = [_kind(_resolved(option, root)) for option in rule]
            field, allowed = kinds[0][0], [value for _, value in kinds]
            if isinstance(found, dict) and field in found:
                return [unknown(f"{_name(key)}.{field}", found[field], allowed)]
            expected = f"expected a mapping with `{field}`: {', '.join(allowed)}"
            return [f"{_name(key)}: found {quoted(found)}, {expected}"]
        case "additionalProperties":
            allowed = list(error.schema["properties"])
            return [unknown(f"{key}.{k}".lstrip("."), k, allowed) for k in found if k not in allowed]
        case "required":
            missing = [name for name in rule if name not in found]
            remedy = "" if key else "; a preset goes behind a run's own file: --configfile config.yaml PRESET"
            return [f"{_name(key)}: `{'`, `'.join(missing)}` is missing{remedy}"]
        case "enum":
            return [unknown(_name(key), found, rule)]
        case "pattern" if "examples" in error.schema:
            return [unknown(_name(key), found, error.schema["examples"])]
        case "type" if isinstance(found, str) and rule in ("number", "integer") and _is_number(found):
            return [
                f"{_name(key)}: found the text {found!r}, expected a number; YAML reads 1e-3 as text:"
                f" write {float(found)!r}"
            ]
        case "type" if rule == "string" and not isinstance(found, list | dict):
            kind = "nothing" if found is None else type(found).__name__
            return [
                f"{_name(key)}: found {found}, which YAML reads as {kind}, expected text; write it in quotes"
                f"{_meaning(error)}"
            ]
        case _:
            return [f"{_name(key)}: found {quoted(found)}, {_requirement(error)}"]


def _infinite(value: Any, key: str = "") -> Iterator[str]:
    """Lines on numbers that are NaN or infinite, which pass every bound of a schema."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _infinite(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _infinite(inner, f"{key}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{_name(key)}: found {value}, expected a finite number"


def _name(key: str) -> str:
    return key.lstrip(".") or "the configuration"


def _requirement(error: ValidationError) -> str:
    """What a keyword of JSON schema asks for, in words, and what the key means."""
    rule = error.validator_value
    match error.validator:
        case "type":
            text = f"expected {rule if isinstance(rule, str) else ' or '.join(rule)}"
        case "minimum":
            text = f"expected at least {rule}"
        case "maximum":
            text = f"expected at most {rule}"
        case "exclusiveMinimum":
            text = f"expected more than {rule}"
        case "minItems":
            text = f"expected at least {rule} entries"
        case "maxItems":
            text = f"expected at most {rule} entries"
        case "uniqueItems":
            text = "expected no entry twice"
        case "pattern":
            text = f"expected {error.schema.get('$comment', f'what matches {rule}')}"
        case "minLength":
            text = f"expected at least {rule} characters"
        case "maxLength":
            text = f"expected at most {rule} characters"
        case "exclusiveMaximum":
            text = f"expected less than {rule}"
        case "anyOf":
            text = f"expected {error.schema['$comment']}"
        case _:
            text = f"expected {error.validator} {rule}"
    return f"{text}{_meaning(error)}"


def _meaning(error: ValidationError) -> str:
    meaning = error.schema.get("description")
    return f" ({meaning})" if meaning else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _contradictions(config: Config) -> list[str]:
    """What a schema cannot say."""
    return [
        *_repeated(config),
        *_attacks(config["attacks"]),
        *_weights(config["classifier"]),
        *_packaged(config),
        *_images(config),
        *_protocols(config),
        *_figures(config),
        *_adaptive(config),
        *_neighbours(config),
        *_files(config),
    ]


def _repeated(config: Config) -> Iterator[str]:
    for section, reserved in (("attacks", ["original", "reference", "all"]), ("detectors", [])):
        names = [entry["name"] for entry in config[section]]
        for name, count in Counter(names).items():
            if count > 1:
                yield f"{section}: the name {name!r} stands {count} times; every entry needs its own"
            if name in reserved:
                yield f"{section}: the name {name!r} is taken by the workflow; choose another"


def _attacks(attacks: list[Config]) -> Iterator[str]:
    for i, attack in enumerate(attacks):
        eps, step = attack.get("eps", 0), attack.get("step") or 0
        if 0 < eps < step:
            yield (f"attacks[{i}].step: found {step} in {attack['name']!r}, allowed: at most its eps, {eps}")
        if attack.get("norm") == "linf" and not (eps <= 255 and float(eps).is_integer()):
            yield (
                f"attacks[{i}].eps: found {eps} in {attack['name']!r}, allowed: with `norm: linf` a whole"
                " number of pixels up to 255"
            )


def _weights(classifier: Config) -> Iterator[str]:
    weights = classifier["weights"]
    if is_file(weights) and not Path(weights).is_file():
        kind = "which is a folder" if Path(weights).is_dir() else f"and no such file in {Path.cwd()}"
        yield (
            f"classifier.weights: found {weights!r}, {kind}; allowed: train,"
            " untrained, the name of weights in capitals (DIGITS of small_resnet, IMAGENET1K_V1 of"
            " torchvision), or the path of a checkpoint"
        )


def _packaged(config: Config) -> Iterator[str]:
    """Where weights of this project do not fit the run, or would be tested on what they were trained on."""
    model, name = config["classifier"]["model"], config["classifier"]["weights"]
    own = WEIGHTS.get(model, {}).get(name)
    if not own:
        return
    for section, keys in own.requires.items():
        for key, expected in keys.items():
            found = config[section].get(key)
            if found != expected:
                yield (
                    f"{section}.{key}: found {found!r}, and the weights {name} of {model} were trained with"
                    f" {expected!r}; use that, or `classifier.weights: train`"
                )
    test = config["dataset"].get("test")
    if isinstance(test, int) and test > own.held_out:
        yield (
            f"dataset.test: found {test}, allowed: at most {own.held_out}, as the weights {name} of {model}"
            " were trained on all other images; use fewer, or `classifier.weights: train`"
        )


def is_file(weights: str) -> bool:
    """Whether `classifier.weights` means a file; names of weights are in capitals."""
    return weights not in ("train", "untrained") and not weights.isupper()


def class_count(dataset: Config) -> int:
    """Number of classes of the reference images."""
    return 10 if dataset["name"] == "digits" else len(folders.classes(dataset["reference"]))


def _images(config: Config) -> Iterator[str]:
    dataset = config["dataset"]
    if dataset["name"] != "digits":
        problems = list(_reference(dataset))
        if problems:
            yield from problems
            return
    try:
        counts = TEST_COUNTS[dataset["name"]](dataset)
    except ValueError as error:
        yield from str(error).splitlines()
        return
    classes = class_count(dataset)
    if dataset["shards"] > classes:
        yield f"dataset.shards: found {dataset['shards']}, allowed: at most one per class, {classes}"
    total, where = sum(counts.values()), min(counts, key=lambda name: counts[name])
    groups = 2 * config["folds"]["count"]
    fpr = config["adaptive"]["fpr"]
    if config["adaptive"]["methods"] and total // groups < (needed := math.ceil(1 / fpr) - 1):
        yield (
            f"adaptive.fpr: found {fpr}, which needs {needed} validation images in a fold, and"
            f" {total} test images in {groups} groups are {total // groups}; use a higher rate, fewer folds"
            " or more test images"
        )
    if config["folds"]["stratify"] == "class" and counts[where] < groups:
        yield (
            f"folds.count: found {groups // 2}, which deals each class into {groups} groups, and a class"
            f" of the test images ({where}) has {counts[where]}; allowed: at most {counts[where] // 2}, or"
            " any with `folds.stratify: none`"
        )
    elif total < groups:
        yield f"folds.count: found {groups // 2}, allowed: at most half the {total} test images"
    # The size of the smallest training part, less one: an image is not in its own batch.
    most = total - 2 * -(-total // groups) - 1
    for i, detector in enumerate(config["detectors"]):
        if detector.get("batch", 0) > most:
            yield (
                f"detectors[{i}].batch: found {detector['batch']}, allowed: at most {most}, of {total} test"
                " images"
            )
        if "batch" in detector and max(detector["k"]) > detector["batch"]:
            yield (
                f"detectors[{i}].k: found {max(detector['k'])} in {detector['name']!r}, allowed: at most its"
                f" batch, {detector['batch']}"
            )


def _reference(dataset: Config) -> Iterator[str]:
    yield from _classes(dataset, "reference")
    if dataset["resize"] and dataset["resize"] < dataset["crop"]:
        yield f"dataset.resize: found {dataset['resize']}, allowed: at least `crop`, {dataset['crop']}"


def _classes(dataset: Config, key: str) -> Iterator[str]:
    """What is wrong with a folder of classes."""
    root = Path(dataset[key])
    try:
        found = folders.classes(root)
        if len(found) < 2:
            yield (
                f"dataset.{key}: found {len(found)} folders in {dataset[key]!r}, expected one per"
                " class and at least two"
            )
        for name in found:
            if next(folders.images(root / name), None) is None:
                yield (
                    f"dataset.{key}: found no image in {str(root / name)!r}, expected at least one"
                    f" ({', '.join(folders.EXTENSIONS)}); add images or remove the folder"
                )
    except OSError as error:
        yield (
            f"dataset.{key}: cannot read {str(error.filename or root)!r} ({error.strerror}); expected a"
            " folder with one folder of images per class"
        )
    except ValueError as error:
        yield f"dataset.{key}: {error}"


def _in_digits(dataset: Config) -> dict[str, int]:
    # The split keeps the classes' shares, so the rarest digit has the fewest test images.
    rarest = dataset["test"] * DIGITS_RAREST // DIGITS
    return {"digits": rarest, "other digits": dataset["test"] - rarest}


def _in_folders(dataset: Config) -> dict[str, int]:
    problems = list(_classes(dataset, "test"))
    known = folders.classes(dataset["reference"])
    found = [] if problems else folders.classes(dataset["test"])
    problems += [
        unknown(f"dataset.test: class {name!r} has no reference images", name, known)
        for name in found
        if name not in known
    ]
    if problems:
        raise InputError("\n".join(problems))
    try:
        return {name: sum(1 for _ in folders.images(Path(dataset["test"], name))) for name in found}
    except OSError as error:
        raise InputError(f"dataset.test: cannot read {error.filename!r} ({error.strerror})") from error


def _in_list(dataset: Config) -> dict[str, int]:
    try:
        images, missing = folders.nips2017(dataset["test"], dataset["labels"])
    except OSError as error:
        raise InputError(f"dataset: cannot read {error.filename!r} ({error.strerror})") from error
    classes = class_count(dataset)
    beyond = [i.name for i in images if max(i.label, i.target) >= classes]
    if beyond:
        raise InputError(
            f"dataset.labels: {len(beyond)} images have a TrueLabel or TargetClass beyond the {classes}"
            f" classes of the reference: {listed(beyond)}; it needs a folder for each class of ImageNet"
        )
    if missing and dataset["missing"] == "error":
        raise InputError(
            f"dataset.test: {dataset['test']} lacks {len(missing)} images of its list: {listed(missing)}; add"
            " them, or leave them out with `missing: skip`"
        )
    if not images:
        raise InputError(f"dataset.test: found none of the listed images in {dataset['test']!r}")
    return Counter(str(image.label + 1) for image in images)


# Count the test images of each class; ValueError has a line for each thing that is wrong with them.
TEST_COUNTS: dict[str, Callable[[Config], dict[str, int]]] = {
    "digits": _in_digits,
    "image_folder": _in_folders,
    "nips2017": _in_list,
}


def warnings(config: Config) -> list[str]:
    """What to say before a run starts; none of it stops the run."""
    dataset = config["dataset"]
    found = []
    if config["classifier"]["weights"] == "untrained":
        found.append("classifier.weights: untrained: the figures show that everything fits together, no more")
    if config["classifier"]["weights"] == "train":
        found.append(
            "classifier.weights: train: all figures and their intervals hold for the classifier that this run"
            " trains; another seed, kind of processor, number of `threads` or version of PyTorch trains"
            " another, whose figures can lie outside of them"
        )
    if dataset.get("missing") == "skip":
        images, missing = folders.nips2017(dataset["test"], dataset["labels"])
        if missing:
            found.append(
                f"dataset.test: {len(missing)} of {len(images) + len(missing)} listed images are missing and"
                f" left out: {listed(missing)}"
            )
    return found


def _protocols(config: Config) -> Iterator[str]:
    for i, protocol in enumerate(config["protocols"]):
        if protocol != "known" and len(config["attacks"]) < 2:
            yield f"protocols[{i}]: found {protocol!r}, which needs at least two attacks; allowed: known"


def _figures(config: Config) -> Iterator[str]:
    for key, section in (("attack", "attacks"), ("detectors", "detectors")):
        names = [entry["name"] for entry in config[section]]
        asked = config["figures"][key] or []
        for name in [asked] if isinstance(asked, str) else asked:
            if name not in names:
                yield unknown(f"figures.{key}", name, names)


def differentiable(detectors: list[Config]) -> list[str]:
    """Names of the detectors that adaptive attacks can attack."""
    return [
        entry["name"]
        for entry in detectors
        if entry["method"] in DIFFERENTIABLE
        and (entry.get("representative", "medoid"), entry.get("metric", "l2")) == ("medoid", "l2")
    ]


def _adaptive(config: Config) -> Iterator[str]:
    section, names = config["adaptive"], differentiable(config["detectors"])
    if not section["methods"]:
        return
    if not names:
        yield (
            f"adaptive.methods: found {section['methods']}, which need a detector that has a gradient, and"
            f" there is none; allowed: no methods, or a detector of method {' or '.join(DIFFERENTIABLE)}, and"
            " where it reads distances, of L2 distances to medoids"
        )
    for name in section["detectors"] or []:
        if names and name not in names:
            yield unknown("adaptive.detectors", name, names)
    if "known" not in config["protocols"]:
        yield "adaptive.methods: attack a detector of the protocol known; add it to `protocols`"
    count = config["folds"]["count"]
    for fold in section["folds"]:
        if fold >= count:
            yield f"adaptive.folds: found {fold}, allowed: 0 to {count - 1}"


def _neighbours(config: Config) -> Iterator[str]:
    """Where more neighbours are asked for than there are reference images."""
    wanted = {
        i: max(entry["k"])
        for i, entry in enumerate(config["detectors"])
        if entry["method"] in ("knn", "knn_distance")
    }
    dataset = config["dataset"]
    if not wanted or (dataset["name"] != "digits" and any(_reference(dataset))):
        return
    count = _reference_count(dataset, max(wanted.values()))
    for i, k in wanted.items():
        if k > count:
            yield f"detectors[{i}].k: found {k}, allowed: at most the {count} reference images"


def _reference_count(dataset: Config, enough: int) -> int:
    """Number of reference images, or so many as are enough: to count those of ImageNet takes long."""
    if dataset["name"] == "digits":
        return DIGITS - dataset["test"]
    count = 0
    for name in folders.classes(dataset["reference"]):
        count += sum(
            1 for _ in islice(folders.images(Path(dataset["reference"], name)), dataset["per_class"])
        )
        if count >= enough:
            break
    return count


def _files(config: Config) -> Iterator[str]:
    """Where a job would open more files than a process may."""
    needed, (_, hard) = _needed_files(config), resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        yield (
            f"dataset.shards: found {config['dataset']['shards']}, beside {len(config['attacks'])} attacks,"
            f" for which a job opens up to {needed} files, and a process may open {hard} here (`ulimit -Hn`);"
            " use fewer shards, or raise that limit"
        )


def _needed_files(config: Config) -> int:
    return 2 * max(config["dataset"]["shards"], 1 + len(config["attacks"])) + OTHER_FILES


def allow_files(config: Config) -> None:
    """Raise this process's limit of open files to what a job needs, which inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and (needed := _needed_files(config)) > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _raise(problems: Iterable[str]) -> None:
    # Each line once: every missing key is a violation, whose line names all that are missing.
    if lines := [f"\n  {problem}" for problem in dict.fromkeys(problems)]:
        raise ConfigError("the configuration cannot be run:" + "".join(lines))
