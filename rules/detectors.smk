rule train:
    input:
        reads("train"),
    output:
        model="<run>/detectors/{detector}/seed-{seed}/fold-{fold}/model.pt",
        history="<run>/detectors/{detector}/seed-{seed}/fold-{fold}/history.zarr.zip",
    log:
        "<run>/logs/detectors/{detector}/seed-{seed}/fold-{fold}.train.log",
    benchmark:
        "<run>/benchmarks/detectors/{detector}/seed-{seed}/fold-{fold}.train.tsv"
    # Start training first; it takes longest.
    priority: 1
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=fitting,
        runtime=growing(60),
    params:
        settings=told("train"),
        code=runs("train"),
        expected=expected,
    message:
        "detectors: train {wildcards.detector} on fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/train.py"


rule evaluate:
    input:
        reads("evaluate"),
    output:
        "<run>/detectors/{detector}/seed-{seed}/fold-{fold}/scores.zarr.zip",
    log:
        "<run>/logs/detectors/{detector}/seed-{seed}/fold-{fold}.evaluate.log",
    benchmark:
        "<run>/benchmarks/detectors/{detector}/seed-{seed}/fold-{fold}.evaluate.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(2500),
        runtime=growing(10),
    params:
        settings=told("evaluate"),
        code=runs("evaluate"),
        expected=expected,
    message:
        "detectors: evaluate {wildcards.detector} on fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/evaluate.py"
