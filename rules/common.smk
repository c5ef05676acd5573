import csv
import gc
import json
import os
import re
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Snakemake keeps nearly all that it makes: with thousands of jobs, looking for garbage took a fifth of its time.
gc.set_threshold(100_000)

SCRIPTS = Path(workflow.basedir, "workflow_scripts")
sys.path.insert(0, str(SCRIPTS))
# Use this checkout's library: the code digest covers only it.
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [str(SCRIPTS), os.getenv("PYTHONPATH")]))
)
# What a shell takes for more than a part of a word: Snakemake calls scripts by an unquoted path (snakemake#2645).
if re.search(r"[\s\"'\\$&;|<>()*?\[\]`#!{}~]", sys.executable):
    raise WorkflowError(
        f"Python is at {sys.executable}, and Snakemake starts jobs by a command line that such a path breaks; make"
        " the environment (.venv) in a folder whose path has no spaces nor quotes, or call it by a link that has none"
    )
# Threads of several jobs on the same cores are not to spin while they wait for each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from detour import chance, code, folders, histories, methods
from detour.config import (
    ConfigError,
    allow_files,
    class_count,
    differentiable,
    is_file,
    layer,
    layers,
    load,
    repeated,
    warnings,
)
from detour.manifest import contents

try:
    # Snakemake takes the last of two sections of one name.
    if workflow.is_main_process and (
        lines := [line for path in workflow.configfiles for line in repeated(path)]
    ):
        raise ConfigError("\n  ".join(["the configuration cannot be run:", *lines]))
    config = load(
        config,
        json.loads(Path(workflow.basedir, "schemas/config.schema.json").read_text()),
    )
    allow_files(config)
    RUN = Path("results", config["run"])
    LAYERS = layers(config, RUN / "layers.json")
    # Only asked once: a job takes what the workflow that started it found.
    CONTENTS = contents(
        config,
        RUN / "contents.json",
        again=workflow.is_main_process,
        say=logger.info,
    )
    for i, entry in enumerate(config["detectors"]):
        if entry.get("layer", "best") != "best":
            entry["layer"] = layer(entry["layer"], LAYERS, f"detectors[{i}].layer")
        for name in entry.get("layers") or []:
            layer(name, LAYERS, f"detectors[{i}].layers")
except (ValueError, OSError) as error:
    raise WorkflowError(error) from None


pathvars:
    run=str(RUN),


def settings(**used):
    """What a job uses of the configuration, as one string: Snakemake forgets the names of params."""
    text = json.dumps(used, sort_keys=True)
    # Snakemake takes braces around a word for a wildcard, also in the name of a folder.
    return re.sub(
        r'"(?:[^"\\]|\\.)*"',
        lambda m: m[0].replace("{", "\\u007b").replace("}", "\\u007d"),
        text,
    )


@cache
def digest(script, *modules):
    """What the code of a rule means, and which libraries its numbers are from."""
    versions = code.libraries(SCRIPTS / script, *modules).items()
    used = (f"{name} {version}" for name, version in versions)
    return ", ".join([code.digest(SCRIPTS / script, *modules), *used])


def without(section, *keys):
    return {key: value for key, value in section.items() if key not in keys}


ATTACKS = {attack["name"]: attack for attack in config["attacks"]}
SETS = ["original", *ATTACKS]
MEASURED = ("representative", "metric")
DETECTORS = {
    detector["name"]: without(detector, *MEASURED) for detector in config["detectors"]
}
# Which distances a detector reads; the figures show the paper's.
PAPER_S = "medoid-l2"
MEASURE = {
    detector["name"]: "-".join(detector[key] for key in MEASURED)
    for detector in config["detectors"]
    if "metric" in detector
}
# Methods whose training is random; others are trained with the first seed only.
SEEDED = ["lstm", "mlp", "lid", "fisher_mlp"]
SEEDS = {
    name: config["seeds"] if entry["method"] in SEEDED else config["seeds"][:1]
    for name, entry in DETECTORS.items()
}
SHARDS = range(config["dataset"]["shards"])
FOLDS = range(config["folds"]["count"])

# Dataset settings that affect a job; the test path is left out where it is not used.
DATASET = without(config["dataset"], "shards", "workers", "duplicates")
if DATASET["name"] == "digits":
    TEST = REFERENCE = DATASET
else:
    TEST = without(DATASET, "per_class") | {"content": CONTENTS["test"]}
    REFERENCE = without(DATASET, "test", "labels", "missing") | {
        "content": CONTENTS["reference"]
    }
    if DATASET["per_class"]:
        REFERENCE["seed"] = config["seed"]


def reference_of(shard):
    """The dataset as one extraction job sees it: its own classes' images alone can have changed."""
    if "content" not in REFERENCE:
        return REFERENCE
    classes = folders.shards(len(CONTENTS["reference"]), len(SHARDS))[shard]
    return REFERENCE | {"content": [CONTENTS["reference"][c] for c in classes]}


IMAGES = {s: f"<run>/images/{s}.zarr.zip" for s in SETS}
ACTIVATIONS = {s: f"<run>/activations/{s}.zarr.zip" for s in SETS}
REFERENCES = [f"<run>/activations/reference/{shard}.zarr.zip" for shard in SHARDS]
MEDOIDS = [f"<run>/medoids/{layer}.zarr.zip" for layer in LAYERS]
# In place of a layer: all of them side by side.
JOINT = "joint"


def joint(chosen):
    """The name of the Gaussian of some layers, or of all, side by side."""
    if chosen in (None, LAYERS):
        return JOINT
    return f"{JOINT}-{sha256(json.dumps(chosen).encode()).hexdigest()[:8]}"


GAUSSIANS = [f"<run>/gaussians/{layer}.zarr.zip" for layer in LAYERS]
NEIGHBOURS = {s: f"<run>/neighbours/{s}.zarr.zip" for s in SETS}
DISTANCES = {
    measure: {s: f"<run>/distances/{measure}/{s}.zarr.zip" for s in SETS}
    for measure in dict.fromkeys([PAPER_S, *MEASURE.values()])
}
REPRESENTATIVES = {"medoid": MEDOIDS, "centroid": GAUSSIANS}
# What jobs read, and beside it what people do.
TABLES, CSV = (
    {
        name: f"<run>/{name}{ending}"
        for name in (
            "folds",
            "verdicts",
            "outcomes",
            "scores",
            "histories",
            "metrics",
            "summary",
            "adaptive",
        )
    }
    for ending in (".zarr.zip", ".csv")
)
ONE_FOLD = "{detector}/seed-{seed}/fold-{fold}"
FOLD = f"<run>/detectors/{ONE_FOLD}"
EVALUATED, HISTORIES = (
    [
        path
        for detector, seeds in SEEDS.items()
        for path in expand(
            f"{FOLD}/{table}.zarr.zip", detector=detector, seed=seeds, fold=FOLDS
        )
    ]
    for table in ("scores", "history")
)

# What a method reads, as its class says: another change does not make it rerun.
READS = {
    "lstm": ["distances"],
    "mlp": ["distances"],
    "logistic": ["distances"],
    "knn": ["activations", "neighbours"],
    "knn_distance": ["neighbours"],
    "mahalanobis": ["activations", "gaussians"],
    "lid": ["activations"],
    "fisher": ["activations", "joint"],
    "fisher_mlp": ["activations", "joint"],
    "max_softmax": ["activations"],
    "energy": ["activations"],
}
STORES = {
    "activations": list(ACTIVATIONS.values()),
    "neighbours": list(NEIGHBOURS.values()),
    "gaussians": GAUSSIANS,
}


# Layers by the name of the Gaussian that has them side by side: decomposed once, for all folds and seeds.
JOINTS = {
    joint(entry["layers"]): entry["layers"] or LAYERS
    for entry in DETECTORS.values()
    if "joint" in READS[entry["method"]]
}


def stores(wildcards):
    entry = DETECTORS[wildcards.detector]
    read = READS[entry["method"]]
    measured = DISTANCES[MEASURE.get(wildcards.detector, PAPER_S)]
    together = f"<run>/gaussians/{joint(entry.get('layers'))}.zarr.zip"
    every = STORES | {"distances": list(measured.values()), "joint": [together]}
    return {name: every[name] for name in read}


def digest_with_detector(script):
    """The digest of a script that loads a detector, which covers that one and no other."""
    return lambda wildcards: digest(
        script,
        methods.module(methods.DETECTORS[DETECTORS[wildcards.detector]["method"]]),
    )


# One search serves all detectors: the largest k, the union of layers.
SEARCHING = [
    entry for entry in DETECTORS.values() if "neighbours" in READS[entry["method"]]
]
SEARCHED = {
    "layers": [
        layer
        for layer in LAYERS
        if any(entry.get("layer", "best") in ("best", layer) for entry in SEARCHING)
    ],
    "k": max((k for entry in SEARCHING for k in entry["k"]), default=0),
}


GPU = 0 if config["device"] == "cpu" else 1


def growing(amount):
    """A resource that a job gets more of where it is tried again; docs/clusters.md has what was measured."""
    return lambda wildcards, attempt: amount * attempt


def fitting(wildcards, attempt):
    """Memory of a training: what reads the joint Gaussian holds a square of all layers' widths."""
    joint = "joint" in READS[DETECTORS[wildcards.detector]["method"]]
    return (4000 if joint else 2500) * attempt


def of_joint(joint, layer):
    """The joint Gaussian takes memory by the square of all widths together, and time by their cube."""
    return lambda wildcards, attempt: attempt * (
        joint if wildcards.layer in JOINTS else layer
    )


# Methods that start from images of the reference, and so are told of it.
STARTING = ["hop_skip_jump"]


def starts(attack):
    return {"dataset": REFERENCE} if attack["method"] in STARTING else {}


COMPUTE = {key: config[key] for key in ("device", "batch_size", "threads")}

# What computes medoids, Gaussians, distances and neighbours. It changes no byte of them, so it reruns nothing: Snakemake
# does not compare params of functions that take `input`.
DASK = settings(**config["dask"])


def dask(wildcards, input):
    return DASK


def show_result():
    """Print the summary and where the report is, if this run made it and not into an object storage."""
    made = any(job.rule.name == "report" for job in workflow.dag.finished_jobs)
    # Of what was only touched there is none.
    if (
        made
        and (RUN / "summary.csv").is_file()
        and (RUN / "summary.csv").stat().st_size
    ):
        shown = ("detector", "protocol", "measure", "cell", "value", "low", "high")
        with open(RUN / "summary.csv") as file:
            rows = [row for row in csv.DictReader(file) if row["population"] == "all"]
        table = [{name: row[name] for name in shown} for row in rows]
        # Not above: every start of Snakemake, also in a job of a cluster, would import it.
        from tabulate import tabulate

        # Names that look like numbers are names.
        names = [
            i for i, name in enumerate(shown) if name not in ("value", "low", "high")
        ]
        printed = tabulate(
            table, headers="keys", floatfmt=".3f", disable_numparse=names
        )
        print(f"\n{printed}\n")
        unsure = []
        with open(RUN / "verdicts.csv") as file:
            unsure += chance.warnings(
                csv.DictReader(file), class_count(config["dataset"])
            )
        with open(RUN / "histories.csv") as file:
            unsure += histories.warnings(csv.DictReader(file))
        for warning in unsure:
            print(f"warning: {warning}\n")
        print(f"report: {(RUN / 'report.html').resolve()}\n")
