ADAPTIVE = config["adaptive"]
# Without methods, no rule asks for what is made here.
ATTACKED = ADAPTIVE["detectors"] or differentiable(config["detectors"])[:1]
ADAPTED = expand(
    "<run>/adaptive/{detector}/{method}/fold-{fold}.zarr.zip",
    detector=ATTACKED,
    method=ADAPTIVE["methods"],
    fold=ADAPTIVE["folds"],
)


rule adapt:
    input:
        classifier="<run>/classifier.pt",
        images=IMAGES["original"],
        activations=ACTIVATIONS["original"],
        distances=DISTANCES[PAPER_S]["original"],
        medoids=MEDOIDS,
        folds=TABLES["folds"],
        model=expand(f"{FOLD}/model.pt", seed=config["seeds"][0], allow_missing=True)[0],
    output:
        "<run>/adaptive/{detector}/{method}/fold-{fold}.zarr.zip",
    log:
        "<run>/logs/adaptive/{detector}/{method}/fold-{fold}.log",
    benchmark:
        "<run>/benchmarks/adaptive/{detector}/{method}/fold-{fold}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=growing(3000),
        runtime=growing(120),
    params:
        settings=lambda wildcards: settings(
            adaptive=without(ADAPTIVE, "methods", "detectors", "folds")
            | {"method": wildcards.method},
            name=wildcards.detector,
            fold=int(wildcards.fold),
            seed=config["seed"],
            **COMPUTE,
        ),
        code=digest_with_detector("adapt.py"),
    message:
        "adaptive: attack classifier and {wildcards.detector} by {wildcards.method} on fold {wildcards.fold}"
    script:
        "../workflow_scripts/adapt.py"


rule adaptive:
    input:
        ADAPTED,
    output:
        TABLES["adaptive"],
        report(CSV["adaptive"], caption="../report/adaptive.rst", category="Tables"),
    log:
        "<run>/logs/adaptive.log",
    benchmark:
        "<run>/benchmarks/adaptive.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(1500),
        runtime=growing(10),
    params:
        code=digest("adaptive_table.py"),
    message:
        "adaptive: the shares that evade the detectors"
    script:
        "../workflow_scripts/adaptive_table.py"
