rule bundle:
    input:
        reads("bundle"),
    output:
        directory("<run>/detectors/{detector}/bundle"),
    log:
        "<run>/logs/detectors/{detector}/bundle.log",
    benchmark:
        "<run>/benchmarks/detectors/{detector}/bundle.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(2500),
        runtime=growing(30),
    params:
        settings=told("bundle"),
        code=runs("bundle"),
        expected=expected,
    message:
        "bundles: put {wildcards.detector} into one folder, with all that it needs to score images"
    script:
        "../workflow_scripts/bundle.py"
