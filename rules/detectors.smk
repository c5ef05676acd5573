rule train:
    input:
        unpack(stores),
        folds="<run>/folds.csv",
    output:
        model=f"{FOLD}/model.pt",
        history=f"{FOLD}/history.csv",
    log:
        f"<run>/logs/detectors/{ONE_FOLD}.train.log",
    benchmark:
        f"<run>/benchmarks/detectors/{ONE_FOLD}.train.tsv"
    # Before evaluations and figures, which are short: then no fit runs alone in the end.
    priority: 1
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(2500),
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
        code=digest("train.py"),
    message:
        "detectors: train {wildcards.detector} on fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/train.py"


rule evaluate:
    input:
        unpack(stores),
        folds="<run>/folds.csv",
        # Of all folds: to score one takes a tenth of the time to start a job.
        models=expand(f"{FOLD}/model.pt", fold=FOLDS, allow_missing=True),
    output:
        f"{SEED}/scores.csv",
    log:
        f"<run>/logs/detectors/{ONE_SEED}.evaluate.log",
    benchmark:
        f"<run>/benchmarks/detectors/{ONE_SEED}.evaluate.tsv"
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
        ),
        code=digest("evaluate.py"),
    message:
        "detectors: evaluate {wildcards.detector}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/evaluate.py"
