rule adapt:
    input:
        reads("adapt"),
    output:
        "<run>/adaptive/{detector}/{method}/fold-{fold}.zarr.zip",
    log:
        "<run>/logs/adaptive/{detector}/{method}/fold-{fold}.log",
    benchmark:
        "<run>/benchmarks/adaptive/{detector}/{method}/fold-{fold}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: PLAN.run.threads
    resources:
        gpu=GPU,
        mem_mb=growing(3000),
        runtime=growing(120),
    params:
        settings=told("adapt"),
        code=runs("adapt"),
        expected=expected,
    message:
        "adaptive: attack classifier and {wildcards.detector} by {wildcards.method} on fold {wildcards.fold}"
    script:
        "../workflow_scripts/adapt.py"


rule adaptive:
    input:
        reads("adaptive"),
    output:
        artefact("adaptive"),
        report(
            csv("adaptive"),
            caption="../report/adaptive.rst",
            category="Tables",
            subcategory=PLAN.run.run,
            labels={"table": "adaptive"},
        ),
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
        settings=told("adaptive"),
        code=runs("adaptive"),
        expected=expected,
    message:
        "adaptive: the shares that evade the detectors"
    script:
        "../workflow_scripts/adaptive_table.py"
