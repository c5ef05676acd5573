"""Configurations that cannot be run: each is refused by the name of its key, or accepted for a stated reason."""

import copy
import datetime
import json
import math
import re
import resource
import subprocess
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import asked
from conftest import Workflow, snakemake
from detour import classifiers, config, outside
from detour.config import ConfigError
from detour.options import detectors, documented

pytestmark = pytest.mark.usefixtures("forked")

ROOT = Path(__file__).parents[1]
SCHEMA = documented.schema()


def load(settings):
    return config.load(settings).model_dump()


@pytest.fixture(autouse=True, scope="module")
def nobody_is_asked():
    """What code from outside says of itself takes seconds to ask; `test_outside.py` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outside, "_asked", lambda asked: {key: {} for key in json.loads(asked)})
        yield


ATTACKS = list(asked.attack_entries())
CONTROLS = [{"name": method, "method": method} | entry for method, entry in asked.CONTROLS.items()]
DETECTORS = [{"name": method, "method": method} for method in detectors.METHODS]
FGSM = {"name": "fgsm", "method": "fgsm", "eps": 8}
BASE = {
    "run": "whole",
    "dataset": {"name": "digits"},
    "classifier": {"model": "small_resnet", "weights": "train"},
    "attacks": [FGSM],
    "detectors": [{"name": "lstm", "method": "lstm"}],
    "adaptive": {"methods": ["pgd"], "detectors": ["lstm"]},
    "figures": {"attack": "fgsm", "detectors": ["lstm"]},
    "compare": ["another"],
    "dask": {"options": {"cores": 8, "walltime": "01:00:00"}},
}


def paths(value, path=()):
    """Paths of every value of a configuration."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(inner, (*path, name))
    elif isinstance(value, list):
        # Other entries are of the same kind.
        for i, inner in enumerate(value[:1]):
            yield from paths(inner, (*path, i))


def changed(settings, path, value):
    settings = copy.deepcopy(settings)
    inner = settings
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return settings


def spelled(path):
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


BAD = {
    "null": None, "true": True, "text": "no such thing", "empty text": "", "newline": "lstm\n", "nul": "a\0b",
    "nan": math.nan, "inf": math.inf, "-inf": -math.inf, "negative": -1, "huge": 10**9 + 7, "beyond floats": 10**400,
    "huge float": 1e300, "tiny": 5e-324, "half": 0.5, "whole float": 100.0, "no list": [], "no mapping": {},
    "list of null": [None], "list of nan": [math.nan], "mapping": {"a": 1}, "date": datetime.date(2026, 1, 1),
    "long": "x" * 5000, "twice": [1, 1],
}  # fmt: skip

# The others are tried by `make test-all`.
FEW = ["null", "true", "newline", "nan", "negative", "huge", "tiny", "whole float", "mapping"]
LABELS = [
    pytest.param(FEW, id="few"),
    pytest.param(sorted({*BAD} - {*FEW}), id="rest", marks=pytest.mark.slow),
]

# What is no mistake, by the key; all other values are refused.
ACCEPTED = {
    # Any number is meant, from 1e-12 to 1e12.
    r".*\.(lr|delta|ridge|temperature)|adaptive\.step": {"huge", "half", "whole float"},
    r".*\.c\[0\]": {"huge", "half"},
    r".*\.(decay|confidence|damage|weight|weight_decay)|sparse_l1\.eps": {"huge", "tiny", "half", "whole float"},
    r"pgd\.eps": {"whole float"},
    r"mahalanobis\.magnitude": {"tiny", "half", "whole float"},
    # At most the attack's eps, 8; null has a meaning of its own.
    r"(iterative|pgd|mifgsm|sparse_l1)\.step": {"half"},
    r"(pgd|mifgsm|sparse_l1)\.step": {"null"},
    r"metrics\.(fpr\[0\]|base_rate)|adaptive\.fpr|classifier\.std\[0\]": {"half"},
    r"classifier\.mean\[0\]|.*\.dropout": {"half", "tiny"},
    r"seed|seeds\[0\]": {"huge"},
    # Switches.
    r".*\.(random_start|bidirectional)|classifier\.transform_input": {"true"},
    # Attacks of other libraries, and what was made elsewhere: any budget, or none.
    r"(art|autoattack|files|foolbox|torchattacks)\.eps": {"null", "huge", "tiny", "half", "whole float"},
    # Strengths of controls are any number within their bounds.
    r"(rescale|crop)\.factor": {"half"},
    r"gamma\.gamma": {"half", "whole float"},
    r"(brightness|contrast)\.factor|gaussian_noise\.sigma": {"half", "tiny", "whole float"},
    r"gaussian_blur\.sigma|defocus\.radius": {"half", "whole float"},
    r"shot_noise\.photons": {"half", "huge", "whole float"},
    r"rotate\.degrees": {"half", "tiny", "negative", "whole float"},
    # The library knows, and is asked before any job.
    r"(art|foolbox|torchattacks)\.attack": {"text"},
    r"(art|autoattack|foolbox|torchattacks)\.options": {"mapping", "no mapping"},
    r"classifier\.options": {"no mapping"},
    # Null, or nothing, leaves it to the workflow.
    r".*\.family|classifier\.classes|classifier\.training\.start": {"null"},
    r".*\.(patience|per_class|labels|resize|transform_input)|(fisher|fisher_mlp)\.layers": {"null"},
    r"adaptive\.detectors|figures\.(attack|detectors)": {"null"},
    r"adaptive\.methods|compare": {"no list"},
    r"adaptive|figures|folds|metrics|dask|dask\.options|classifier\.training": {"no mapping"},
    # Only torch can tell whether there is such a model or layer; it is asked before any job.
    r"classifier\.model|knn\.layer": {"text"},
    # Options of dask-jobqueue, which knows them.
    r"dask\.options": {"mapping"},
    r"dask\.options\.cores": {*BAD} - {"nan", "inf", "-inf", "no mapping", "mapping", "date", "list of null", "list of nan"},
    r"dask\.options\.walltime": {"text", "empty text", "newline", "nul", "long"},
}  # fmt: skip


def accepted(key):
    return set().union(*(labels for pattern, labels in ACCEPTED.items() if re.fullmatch(pattern, key)))


def check(settings, path, called, labels):
    """Every bad value of a key is refused by its name or that of a section around it, or stated to be none."""
    expected = accepted(called)
    for label in labels:
        try:
            load(changed(settings, path, BAD[label]))
        except ConfigError as error:
            said = str(error)
            assert label not in expected, said
            around = [spelled(path[:i]) for i in range(1, len(path) + 1)]
            assert any(f"  {name}" in said for name in around), f"{label}: {said}"
            assert all(len(line) < 1200 for line in said.splitlines()), f"{label}: {said}"
        else:
            assert label in expected, f"{called}: {label} was accepted"


SECTIONS = list(paths(load(BASE)))


@pytest.mark.parametrize(
    "path", [p for p in SECTIONS if p[0] not in ("attacks", "controls", "detectors")], ids=spelled
)
@pytest.mark.parametrize("labels", LABELS)
def test_every_key_of_a_section_refuses_what_it_cannot_mean(path, labels):
    check(load(BASE), path, spelled(path), labels)


@pytest.mark.parametrize("entry", [*ATTACKS, *CONTROLS, *DETECTORS], ids=lambda entry: entry["method"])
@pytest.mark.parametrize("labels", LABELS)
def test_every_key_of_a_method_refuses_what_it_cannot_mean(entry, labels):
    sections = {"attacks": ATTACKS, "controls": CONTROLS, "detectors": DETECTORS}
    section = next(name for name, entries in sections.items() if entry in entries)
    settings = load(BASE | {"adaptive": {}, "figures": {}, section: [entry]})
    for key in settings[section][0]:
        found = settings[section][0][key]
        check(settings, (section, 0, key), f"{entry['method']}.{key}", labels)
        if isinstance(found, list):
            check(settings, (section, 0, key, 0), f"{entry['method']}.{key}[0]", labels)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Sections of the datasets that are read from folders."""
    root = tmp_path_factory.mktemp("folders")
    for part in ("reference", "test"):
        for name in ("a", "b"):
            (root / part / name).mkdir(parents=True)
            for i in range(20):
                (root / part / name / f"{i}.png").touch()
    (root / "images").mkdir()
    for i in range(40):
        (root / "images" / f"{i}.png").touch()
    rows = [f"{i},{1 + i % 2},{2 - i % 2}" for i in range(40)]
    (root / "images.csv").write_text("\n".join(["ImageId,TrueLabel,TargetClass", *rows]))
    shared = {"reference": str(root / "reference"), "shards": 2, "resize": 400}
    return {
        "image_folder": {"test": str(root / "test"), "crop": 8, **shared},
        "nips2017": {"test": str(root / "images"), "labels": str(root / "images.csv"), **shared},
    }


@pytest.mark.parametrize("name", ["image_folder", "nips2017"])
@pytest.mark.parametrize("labels", LABELS)
def test_every_key_of_a_dataset_refuses_what_it_cannot_mean(folders, name, labels):
    settings = load(BASE | {"adaptive": {}, "dataset": {"name": name} | folders[name]})
    for key in settings["dataset"]:
        check(settings, ("dataset", key), f"dataset.{key}", labels)


def kinds(rule):
    """What a rule says of whole numbers, alone, in a list, or beside null."""
    inner = [rule, *rule.get("anyOf", ())]
    inner += [kind["items"] for kind in inner if "items" in kind]
    return [kind for kind in inner if kind.get("type") == "integer"]


INTEGERS = [
    (name, key)
    for name, option in [*SCHEMA["$defs"].items(), *SCHEMA["properties"].items()]
    for key, rule in [("", option), *option.get("properties", {}).items()]
    if kinds(rule)
]


@pytest.mark.parametrize(("name", "key"), INTEGERS)
def test_every_whole_number_has_bounds(name, key):
    option = SCHEMA["$defs"].get(name) or SCHEMA["properties"][name]
    rule = option["properties"][key] if key else option
    (number,) = kinds(rule)
    assert {"minimum", "maximum"} <= set(number)


PATTERNS = [
    ("run", BASE | {"run": "a"}, ("run",), ["a", "A.b-c_9", "0"]),
    ("compare", BASE, ("compare", 0), ["a", "A.b-c_9", "0"]),
    ("name", BASE, ("attacks", 0, "name"), ["NA", "null", "16", "08", "1e3", "nan", "True", "-".join("abc")]),
    ("scheduler", BASE, ("dask", "scheduler"), ["threads", "tcp://node:8786", "tls://[fe80::1]:8786"]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "settings", "path", "good"), PATTERNS)
@given(data=st.data())
@hypothesis.settings(max_examples=40, deadline=None)
def test_a_pattern_ends_where_the_text_ends(what, settings, path, good, data):
    """Names are text, whatever they look like; a line break or a blank is part of none."""
    settings = settings | {"adaptive": {}, "figures": {}}
    name = data.draw(st.sampled_from(good))
    load(changed(settings, path, name))
    place = data.draw(st.integers(0, len(name)))
    odd = data.draw(st.sampled_from(["\n", "\r\n", " ", "\t", "\u2028", "\0", "/", "{x}", "é"]))
    if (what == "scheduler" and odd in ("{x}", "é", "\0")) or (odd == "/" and "//" in name):
        return
    with pytest.raises(ConfigError, match=spelled(path).replace("[", r"\[")):
        load(changed(settings, path, name[:place] + odd + name[place:]))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("16", "found 16, which YAML reads as int, expected text; write it in quotes"),
        ("null", "found None, which YAML reads as nothing, expected text"),
        ("on", "found True, which YAML reads as bool"),
        ("1.5", "found 1.5, which YAML reads as float"),
        ("2026-01-01", "found 2026-01-01, which YAML reads as date"),
        ("0x10", "found 16, which YAML reads as int"),
        ("1:30", "found 90, which YAML reads as int"),
    ],
)
@pytest.mark.parametrize(
    "path", [("run",), ("attacks", 0, "name"), ("detectors", 0, "name"), ("classifier", "weights")]
)
def test_a_name_that_yaml_takes_for_something_else_wants_quotes(written, message, path):
    settings = BASE | {"adaptive": {}, "figures": {}}
    with pytest.raises(ConfigError, match=f"{re.escape(spelled(path))}: {message}"):
        load(changed(settings, path, yaml.safe_load(written)))
    if path[-1] != "weights":
        load(changed(settings, path, written.replace(":", "").replace(".", "")))


TWICE = [
    (
        "attacks:\n  - {name: a}\ndetectors: []\nattacks: []\n",
        "line 4: `attacks` stands for the second time, after line 1",
    ),
    ("folds:\n  count: 2\n  count: 3\n", "line 3: `folds.count` stands for the second time, after line 2"),
    ("attacks:\n- name: a\n  eps: 1\n  eps: 2\n", r"line 4: `attacks\[0\].eps` stands"),
    ('{"run": "a", "run": "b"}', "line 1: `run` stands"),
    ('{\n\t"run": "a",\n\t"run": "b"\n}', "line 3: `run` stands"),
    ("a: {b: {c: 1, c: 2}}\n", "line 1: `a.b.c` stands"),
    ('run: a\n"run": b\n', "line 2: `run` stands"),
]


@pytest.mark.parametrize(("text", "message"), TWICE)
def test_a_key_that_stands_twice_is_told_with_both_lines(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    (line,) = config.misread(tmp_path / "a.yaml")
    assert re.search(rf"a\.yaml, {message}", line)


def test_no_file_of_the_project_has_a_key_twice(tmp_path):
    for path in [ROOT / "config.yaml", *(ROOT / "presets").glob("*.yaml")]:
        assert config.misread(path) == []
    (tmp_path / "empty.yaml").touch()
    assert config.misread(tmp_path / "empty.yaml") == []


@pytest.mark.parametrize("method", ["knn", "knn_distance"])
def test_more_neighbours_than_reference_images_are_refused_before_any_job(folders, method):
    settings = BASE | {
        "adaptive": {},
        "figures": {},
        "dataset": {"name": "image_folder"} | folders["image_folder"],
        "detectors": [{"name": "lstm", "method": "lstm"}, {"name": "near", "method": method, "k": [5, 41]}],
    }
    with pytest.raises(
        ConfigError, match=r"detectors\[1\].k: found 41, allowed: at most the 40 reference images"
    ):
        load(settings)
    settings["detectors"][1]["k"] = [40]
    load(settings)
    settings["dataset"]["per_class"] = 7
    with pytest.raises(ConfigError, match="found 40, allowed: at most the 14 reference images"):
        load(settings)
    digits = settings | {"dataset": {"name": "digits", "test": 1770}, "folds": {"stratify": "none"}}
    with pytest.raises(ConfigError, match="found 40, allowed: at most the 27 reference images"):
        load(digits)


@pytest.mark.parametrize("hard", [300, 1000, resource.RLIM_INFINITY])
def test_shards_beyond_the_limit_of_open_files_are_refused_or_the_limit_is_raised(monkeypatch, hard):
    limits = [256, hard]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, found: limits.__setitem__(slice(None), found))
    settings = BASE | {"dataset": {"name": "digits", "shards": 10}}
    many = settings | {"attacks": [FGSM | {"name": f"a{i}"} for i in range(30)], "figures": {}}
    load(BASE)
    if hard == 300:
        with pytest.raises(
            ConfigError,
            match=r"dataset.shards: found 10, beside 30 attacks and 0 controls, .* may open 300 here",
        ):
            load(many)
    else:
        config.allow_files(config.load(many))
        assert limits[0] >= 2 * 31 + 256
        assert limits[1] == hard
    config.allow_files(config.load(BASE))


def test_a_folder_or_a_missing_file_is_no_file_of_weights(tmp_path):
    for weights, message in (
        (str(tmp_path), "which is a folder"),
        (str(tmp_path / "{x}.pt"), "and no such file"),
    ):
        with pytest.raises(ConfigError, match=f"classifier.weights: found .*, {message}"):
            load(BASE | {"classifier": {"model": "small_resnet", "weights": weights}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"question": {}}',
        '{"question": 3, "layers": ["a"]}',
        "\0",
        '{"layers": ["stem"]}',
    ],
)
def test_remembered_layers_that_are_cut_or_of_another_shape_are_asked_for_again(tmp_path, monkeypatch, text):
    settings, asked = config.load(BASE), []

    def answer(*args, **options):
        asked.append(json.loads(options["input"]))
        return subprocess.CompletedProcess(args, 0, json.dumps({"layers": ["stem"]}), "")

    monkeypatch.setattr(subprocess, "run", answer)
    remembered = tmp_path / "layers.json"
    remembered.write_text(text)
    assert config.layers(settings, remembered) == ["stem"]
    assert config.layers(settings, remembered) == ["stem"]
    assert len(asked) == 1
    whole = json.loads(remembered.read_text())
    for broken in (
        {**whole, "layers": []},
        {**whole, "layers": "stem"},
        {**whole, "layers": [3]},
        {**whole, "by": {}},
    ):
        remembered.write_text(json.dumps(broken))
        assert config.layers(settings, remembered) == ["stem"]
    assert len(asked) == 5


def test_an_error_begins_with_the_key_and_ends_in_one_line_for_each(tmp_path):
    settings = BASE | {
        "run": "b\n",
        "seed": math.nan,
        "classifier": {"model": "x", "weights": "train", "std": [0, 0, 0]},
    }
    with pytest.raises(ConfigError) as caught:
        load(settings)
    first, *lines = str(caught.value).splitlines()
    assert first == "the configuration cannot be run:"
    assert sorted({line.split(":")[0].strip() for line in lines}) == [
        "classifier.std[0]", "classifier.std[1]", "classifier.std[2]", "run", "seed",
    ]  # fmt: skip


@pytest.fixture
def in_brackets(tmp_path, rng):
    """A run whose folders and weights have names that Snakemake could take for wildcards and variables."""
    odd = tmp_path / "a {run} <run> {x.y}"
    for part in ("reference", "test"):
        for name in "ab":
            (odd / part / name).mkdir(parents=True)
            for i in range(8):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(odd / part / name / f"{i}.png")
    torch.save(classifiers.untrained("small_resnet", 2, seed=0).state_dict(), odd / "w {x}.pt")
    settings = {
        "run": "odd",
        "dataset": {
            "name": "image_folder", "reference": str(odd / "reference"), "test": str(odd / "test"), "crop": 32,
            "shards": 2,
        },
        "classifier": {"model": "small_resnet", "weights": str(odd / "w {x}.pt"), "layers": ["stem", "blocks.0"]},
        "attacks": [{"name": "NA", "method": "noise", "eps": 8}, {"name": "16", "method": "fgsm", "eps": 8}],
        "folds": {"count": 2},
        "detectors": [{"name": "null", "method": "logistic"}],
    }  # fmt: skip
    return Workflow(tmp_path / "workflow", settings)


def test_paths_are_taken_as_they_are_and_a_section_that_stands_twice_is_refused(in_brackets):
    planned = in_brackets.snakemake("-n")
    assert planned.returncode == 0, planned.stdout
    assert "w {x}.pt" in planned.stdout
    twice = in_brackets.folder / "twice.yaml"
    twice.write_text(
        "attacks:\n- {name: a, method: noise, eps: 1}\nattacks:\n- {name: b, method: noise, eps: 1}\n"
    )
    refused = snakemake(in_brackets.folder, "--configfile", "run.yaml", "twice.yaml", "--cores", "1", "-n")
    assert refused.returncode == 1
    said = refused.stdout
    assert "twice.yaml, line 3: `attacks` stands for the second time, after line 1" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_jobs_read_from_such_paths(in_brackets):
    ran = in_brackets.snakemake(
        "results/odd/activations/reference/0.zarr.zip", "results/odd/activations/NA.zarr.zip"
    )
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 010", "line 1: `seed`: found 010, which YAML reads as 8; write 8"),
        ("folds:\n  count: 1:30", "line 2: `folds.count`: found 1:30, which YAML reads as 90"),
        ("batch_size: 0b101", "found 0b101, which YAML reads as 5"),
        ("metrics: {base_rate: 0:0.5}", "`metrics.base_rate`: found 0:0.5, which YAML reads as 0.5"),
        ("seeds: [1, 0_7]", r"`seeds\[1\]`: found 0_7, which YAML reads as 7"),
        ("dask:\n  options:\n    walltime: 1:00:00", "`dask.options.walltime`: found 1:00:00, .* or '1:00:00' in quotes"),
    ],
)  # fmt: skip
def test_a_number_of_another_base_is_told_with_what_yaml_reads(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    (line,) = config.misread(tmp_path / "a.yaml")
    assert re.search(message, line)


@pytest.mark.parametrize(
    "text",
    ["seed: 10", "lr: 0.01", "lr: 1e-3", "n: 1_000", "n: 0x10", "a: '010'", "n: 0", "n: -0.5", "t: a:b"],
)
def test_a_number_that_is_what_it_looks_like_is_none(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    assert config.misread(tmp_path / "a.yaml") == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("attacks", 0, "eps"), "8", "found the text '8', expected a number: write 8$"),
        (("seed",), "1e3", "found the text '1e3', expected a number; YAML reads 1e-3 as text: write 1000$"),
        (("attacks", 0, "eps"), "1.5", "found '1.5', expected integer"),
        (("metrics",), {"base_rate": "0.5"}, "found the text '0.5', expected a number: write 0.5$"),
    ],
)
def test_a_number_in_quotes_is_told_as_what_the_key_takes(path, value, message):
    with pytest.raises(ConfigError, match=message):
        load(changed(BASE, path, value))


def test_capitals_with_an_ending_or_a_folder_are_a_file(tmp_path):
    torch.save({}, tmp_path / "BEST.PT")
    for weights in (str(tmp_path / "BEST.PT").upper(), str(tmp_path / "BEST.PT")):
        assert config.load(BASE).classifier.model_copy(update={"weights": weights}).file == weights
    assert config.load(BASE).classifier.model_copy(update={"weights": "IMAGENET1K_V1"}).file is None


def test_fewer_classes_than_shards_are_no_mistake_of_who_did_not_ask_for_shards(folders):
    dataset = {"name": "image_folder"} | {k: v for k, v in folders["image_folder"].items() if k != "shards"}
    plain = BASE | {"adaptive": {}, "figures": {}}
    assert load(plain | {"dataset": dataset})["dataset"]["shards"] == 2
    with pytest.raises(ConfigError, match="dataset.shards: found 4, allowed: at most one per class, 2"):
        load(plain | {"dataset": dataset | {"shards": 4}})


@pytest.mark.parametrize(
    ("method", "options"),
    [("mahalanobis", {}), ("mahalanobis", {"magnitude": 0.5}), ("fisher", {}), ("fisher_mlp", {})],
)
def test_one_reference_image_a_class_has_no_covariance(folders, method, options):
    settings = BASE | {
        "adaptive": {},
        "figures": {},
        "detectors": [{"name": "d", "method": method} | options],
    }
    dataset = {"name": "image_folder"} | folders["image_folder"]
    load(settings | {"dataset": dataset | {"per_class": 2}})
    with pytest.raises(ConfigError, match=rf"detectors\[0\]: {method} needs the covariance"):
        load(settings | {"dataset": dataset | {"per_class": 1}})


def test_squeezing_that_changes_no_image_is_refused():
    entry = {"name": "d", "method": "feature_squeezing", "bits": 8, "median": 1}
    settings = BASE | {"adaptive": {}, "figures": {}}
    for other in ({"bits": 7}, {"median": 2}):
        load(settings | {"detectors": [entry | other]})
    with pytest.raises(ConfigError, match=r"detectors\[0\]\.bits: found 8 with a median of 1"):
        load(settings | {"detectors": [entry]})


def test_a_class_that_only_looks_the_same_is_told_so(tmp_path):
    for part, name in (("reference", "caf\u00e9"), ("reference", "b"), ("test", "cafe\u0301"), ("test", "b")):
        for i in range(10):
            path = tmp_path / part / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    dataset = {
        "name": "image_folder",
        "reference": str(tmp_path / "reference"),
        "test": str(tmp_path / "test"),
        "crop": 8,
    }
    with pytest.raises(
        ConfigError, match=r"spelled with other characters \('cafe.u0301', expected 'caf.xe9'\)"
    ):
        load(BASE | {"dataset": dataset})
