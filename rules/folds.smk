rule fold:
    input:
        reads("fold"),
    output:
        artefact("folds"),
        csv("folds"),
    log:
        "<run>/logs/folds.log",
    benchmark:
        "<run>/benchmarks/folds.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        settings=told("fold"),
        code=runs("fold"),
        expected=expected,
    message:
        "folds: deal the test images"
    script:
        "../workflow_scripts/fold.py"
