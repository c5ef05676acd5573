"""Configurations that cannot be run: each is refused by the name of its key, or accepted for a stated reason."""

import copy
import datetime
import json
import math
from pathlib import Path

import pytest
import yaml

from detour import config
from detour.config import ConfigError

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "schemas/config.schema.json").read_text())


def load(settings):
    return config.load(settings, SCHEMA)


def options(kind):
    """An entry for each option of `oneOf`, with what it requires."""
    for reference in kind["oneOf"]:
        option = SCHEMA["$defs"][reference["$ref"].rpartition("/")[2]]
        method = option["properties"]["method"]["const"]
        yield {"name": method, "method": method} | ({"eps": 8} if "eps" in option["required"] else {})


# Everything that a configuration can have, with every default.
WHOLE = {
    "run": "whole",
    "dataset": {"name": "digits"},
    "classifier": {"model": "small_resnet", "weights": "train"},
    "attacks": list(options(SCHEMA["properties"]["attacks"]["items"])),
    "detectors": list(options(SCHEMA["properties"]["detectors"]["items"])),
    "adaptive": {"methods": ["pgd"], "detectors": ["lstm"]},
    "figures": {"attack": "fgsm", "detectors": ["lstm"]},
    "dask": {"options": {"cores": 8}},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same on each of the datasets, by its name."""
    root = tmp_path_factory.mktemp("whole")
    for part in ("reference", "test"):
        for name in ("a", "b"):
            (root / part / name).mkdir(parents=True)
            for i in range(120):
                (root / part / name / f"{i}.png").touch()
    (root / "images").mkdir()
    rows = [f"{i},{1 + i % 2},{2 - i % 2}" for i in range(240)]
    for i in range(240):
        (root / "images" / f"{i}.png").touch()
    (root / "images.csv").write_text("\n".join(["ImageId,TrueLabel,TargetClass", *rows]))
    shared = {"reference": str(root / "reference"), "shards": 2, "resize": 400}
    datasets = [
        {"name": "digits"},
        {"name": "image_folder", "test": str(root / "test"), "crop": 8, **shared},
        {"name": "nips2017", "test": str(root / "images"), "labels": str(root / "images.csv"), **shared},
    ]
    return {dataset["name"]: load(WHOLE | {"dataset": dataset}) for dataset in datasets}


def paths(value, path=()):
    """Paths of every value of a configuration."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(inner, (*path, name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from paths(inner, (*path, i))


def with_value(settings, path, value):
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
