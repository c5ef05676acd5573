rule squeeze:
    input:
        reads("squeeze"),
    output:
        "<run>/squeezed/{set}.zarr.zip",
    log:
        "<run>/logs/squeezed/{set}.log",
    benchmark:
        "<run>/benchmarks/squeezed/{set}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: PLAN.run.threads
    resources:
        gpu=GPU,
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        settings=told("squeeze"),
        code=runs("squeeze"),
        expected=expected,
    message:
        "squeezed: run {wildcards.set} through the classifier with less detail"
    script:
        "../workflow_scripts/squeeze.py"
