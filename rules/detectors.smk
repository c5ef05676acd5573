rule train:
    input:
        unpack(stores),
        folds=TABLES["folds"],
    output:
        model=f"{FOLD}/model.pt",
        history=f"{FOLD}/history.zarr.zip",
    log:
        f"<run>/logs/detectors/{ONE_FOLD}.train.log",
    benchmark:
        f"<run>/benchmarks/detectors/{ONE_FOLD}.train.tsv"
    # Start training first; it takes longest.
    priority: 1
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=fitting,
        runtime=growing(60),
    params:
        settings=lambda wildcards: settings(
            name=wildcards.detector,
            protocols=config["protocols"],
            fold=int(wildcards.fold),
            method=DETECTORS[wildcards.detector]["method"],
            options=without(DETECTORS[wildcards.detector], "name", "method"),
            seed=int(wildcards.seed),
        ),
        code=digest_with_detector("train.py"),
    message:
        "detectors: train {wildcards.detector} on fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/train.py"


rule evaluate:
    input:
        unpack(stores),
        folds=TABLES["folds"],
        model=f"{FOLD}/model.pt",
    output:
        f"{FOLD}/scores.zarr.zip",
    log:
        f"<run>/logs/detectors/{ONE_FOLD}.evaluate.log",
    benchmark:
        f"<run>/benchmarks/detectors/{ONE_FOLD}.evaluate.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(2500),
        runtime=growing(10),
    params:
        settings=lambda wildcards: settings(
            name=wildcards.detector,
            protocols=config["protocols"],
            seed=int(wildcards.seed),
            fold=int(wildcards.fold),
        ),
        code=digest_with_detector("evaluate.py"),
    message:
        "detectors: evaluate {wildcards.detector} on fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/evaluate.py"
