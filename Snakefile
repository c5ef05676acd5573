from snakemake.utils import min_version

min_version("9.14")


# A --configfile replaces the default run instead of being mixed into it.
if not workflow.overwrite_configfiles:

    configfile: f"{workflow.basedir}/config.yaml"


include: "rules/common.smk"
include: "rules/classifiers.smk"
include: "rules/images.smk"
include: "rules/attacks.smk"
include: "rules/activations.smk"
include: "rules/medoids.smk"
include: "rules/gaussians.smk"
include: "rules/distances.smk"
include: "rules/neighbours.smk"
include: "rules/verdicts.smk"
include: "rules/folds.smk"
include: "rules/detectors.smk"
include: "rules/metrics.smk"
include: "rules/adaptive.smk"
include: "rules/figures.smk"
include: "rules/report.smk"


report: "report/workflow.rst"


wildcard_constraints:
    set="|".join(SETS),
    attack="|".join(ATTACKS),
    layer="|".join(map(re.escape, [*LAYERS, *JOINTS])),
    representative="|".join(REPRESENTATIVES),
    metric="l2|cosine",
    detector="|".join(DETECTORS),
    protocol="|".join(config["protocols"]),
    shard=r"\d+",
    seed=r"\d+",
    fold=r"\d+",


rule all:
    default_target: True
    input:
        "<run>/report.html",


rule adversarials:
    input:
        expand("<run>/images/{attack}.zarr.zip", attack=ATTACKS),


rule activations:
    input:
        ACTIVATIONS.values(),
        REFERENCES,


rule medoids:
    input:
        MEDOIDS,


rule gaussians:
    input:
        GAUSSIANS,


rule distances:
    input:
        [list(measured.values()) for measured in DISTANCES.values()],


rule neighbours:
    input:
        NEIGHBOURS.values(),


rule detectors:
    input:
        EVALUATED,


rule figures:
    input:
        expand("<run>/figures/{figure}.svg", figure=FIGURES),


onstart:
    for line in [
        *warnings(config),
        *CONTENTS.get("leaked", []),
        *CONTENTS.get("copied", []),
    ]:
        logger.warning(line)


onsuccess:
    show_result()
