import csv
import json
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from tabulate import tabulate

SCRIPTS = Path(workflow.basedir, "workflow_scripts")
sys.path.insert(0, str(SCRIPTS))

from detour import code
from detour.config import (
    ConfigError,
    class_count,
    is_file,
    layer,
    layers,
    load,
    warnings,
)

try:
    config = load(
        config,
        json.loads(Path(workflow.basedir, "schemas/config.schema.json").read_text()),
    )
    RUN = Path("results", config["run"])
    LAYERS = layers(config["classifier"], RUN / "layers.json")
    for i, entry in enumerate(config["detectors"]):
        if "layer" in entry:
            entry["layer"] = layer(entry["layer"], LAYERS, f"detectors[{i}].layer")
except ConfigError as error:
    raise WorkflowError(error) from None


pathvars:
    run=str(RUN),


def settings(**used):
    """What a job uses of the configuration, as one string: Snakemake forgets the names of params."""
    return json.dumps(used, sort_keys=True)


def digest(script):
    """What the code of a rule means."""
    return code.digest(SCRIPTS / script)


def without(section, *keys):
    return {key: value for key, value in section.items() if key not in keys}


ATTACKS = {attack["name"]: attack for attack in config["attacks"]}
SETS = ["original", *ATTACKS]
DETECTORS = {detector["name"]: detector for detector in config["detectors"]}
SHARDS = range(config["dataset"]["shards"])
FOLDS = range(config["folds"]["count"])

# What jobs need to know of the dataset; where a folder of test images is, most do not.
DATASET = without(config["dataset"], "shards", "workers")
if DATASET["name"] == "digits":
    TEST = REFERENCE = DATASET | {"seed": config["seed"]}
else:
    TEST = without(DATASET, "per_class")
    REFERENCE = without(DATASET, "test", "labels", "missing")
    if DATASET["per_class"]:
        REFERENCE["seed"] = config["seed"]

IMAGES = {s: f"<run>/images/{s}.zarr.zip" for s in SETS}
ACTIVATIONS = {s: f"<run>/activations/{s}.zarr.zip" for s in SETS}
REFERENCES = [f"<run>/activations/reference/{shard}.zarr.zip" for shard in SHARDS]
MEDOIDS = [f"<run>/medoids/{layer}.zarr.zip" for layer in LAYERS]
DISTANCES = {s: f"<run>/distances/{s}.zarr.zip" for s in SETS}
ONE_FOLD = "{detector}/{protocol}/fold-{fold}"
FOLD = f"<run>/detectors/{ONE_FOLD}"
EVALUATED = expand(
    f"{FOLD}/scores.csv", detector=DETECTORS, protocol=config["protocols"], fold=FOLDS
)

GPU = 0 if config["device"] == "cpu" else 1
COMPUTE = {key: config[key] for key in ("device", "batch_size")}


def show_result():
    """Print the table of AUC and where the report is, if this run made it."""
    if any(job.rule.name == "report" for job in workflow.dag.finished_jobs):
        with open(RUN / "summary.csv") as file:
            table = tabulate(csv.DictReader(file), headers="keys", floatfmt=".3f")
        print(f"\n{table}\n\nreport: {(RUN / 'report.html').resolve()}\n")
