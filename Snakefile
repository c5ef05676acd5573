import os
import re

from snakemake.caching import LOCATION_ENVVAR
from snakemake.caching.rule import RuleCache
from snakemake.utils import min_version

min_version("9.14")


# A --configfile replaces the default run instead of being mixed into it.
if not workflow.overwrite_configfiles:

    configfile: f"{workflow.current_basedir}/config.yaml"


include: "rules/common.smk"
include: "rules/classifiers.smk"
include: "rules/images.smk"
include: "rules/attacks.smk"
include: "rules/controls.smk"
include: "rules/activations.smk"
include: "rules/medoids.smk"
include: "rules/gaussians.smk"
include: "rules/distances.smk"
include: "rules/neighbours.smk"
include: "rules/squeezed.smk"
include: "rules/preprocessed.smk"
include: "rules/verdicts.smk"
include: "rules/folds.smk"
include: "rules/detectors.smk"
include: "rules/metrics.smk"
include: "rules/bundles.smk"
include: "rules/adaptive.smk"
include: "rules/figures.smk"
include: "rules/pngs.smk"
include: "rules/report.smk"
include: "rules/leaderboard.smk"
include: "rules/compare.smk"


report: "report/workflow.rst"


wildcard_constraints:
    set="|".join(PLAN.sets),
    attack="|".join(PLAN.attacks),
    # Without any, what matches no name.
    control="|".join(PLAN.controls) or "(?!)",
    layer="|".join(map(re.escape, [*PLAN.layers, *PLAN.joints])),
    representative="|".join(REPRESENTATIVES),
    metric="l2|cosine",
    detector="|".join(PLAN.detectors),
    protocol="|".join(PLAN.run.protocols),
    shard=r"\d+",
    seed=r"\d+",
    fold=r"\d+",


# Here, and not by `cache:` in each rule: of that Snakemake warns at every start without --cache, and it allows such rules
# no benchmark.
if workflow.enable_cache:
    place = os.environ.get(LOCATION_ENVVAR, "")
    if "://" not in place and not Path(place or "-").is_dir():
        raise WorkflowError(
            f"--cache: found {place!r} in the environment variable {LOCATION_ENVVAR}, expected a folder that is there,"
            " in which runs share what is equal"
        )
    for made in workflow.rules:
        if made.script in [f"../workflow_scripts/{script}" for script in SHARED]:
            made.cache, made._benchmark = RuleCache.from_rule(made, True), None


rule all:
    default_target: True
    input:
        "<run>/report.html",
        "<run>/leaderboard.json",
        PLAN.bundles.values(),


rule bundles:
    input:
        PLAN.bundles.values(),


rule adversarials:
    input:
        [PLAN.images[attack] for attack in PLAN.attacks],


rule pngs:
    input:
        expand("<run>/pngs/{set}", set=PLAN.sets),


rule activations:
    input:
        PLAN.activations.values(),
        PLAN.references,


rule medoids:
    input:
        PLAN.medoids,


rule gaussians:
    input:
        PLAN.gaussians,


rule distances:
    input:
        [list(measured.values()) for measured in PLAN.distances.values()],


rule neighbours:
    input:
        PLAN.neighbours.values(),


rule detectors:
    input:
        PLAN.evaluated,


rule figures:
    input:
        expand("<run>/figures/{figure}.svg", figure=PLAN.figures),


# Prints the modules of the network; nothing is written.
rule layers:
    log:
        "<run>/logs/layers.log",
    localrule: True
    run:
        console.show_layers(PLAN)


onstart:
    for line in console.warnings(PLAN):
        logger.warning(line)
    if workflow.is_main_process:
        console.record(PLAN, ROOT)


onsuccess:
    # If this run made it, and did not only touch it.
    if any(job.rule.name == "report" for job in workflow.dag.finished_jobs):
        console.show_result(PLAN)
