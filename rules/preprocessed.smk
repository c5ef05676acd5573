rule preprocess:
    input:
        reads("preprocess"),
    output:
        "<run>/preprocessed/{set}.zarr.zip",
    log:
        "<run>/logs/preprocessed/{set}.log",
    benchmark:
        "<run>/benchmarks/preprocessed/{set}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: PLAN.run.threads
    resources:
        gpu=GPU,
        mem_mb=growing(3000),
        runtime=growing(120),
    params:
        settings=told("preprocess"),
        code=runs("preprocess"),
        expected=expected,
    message:
        "preprocessed: move {wildcards.set} towards each layer's nearest class"
    script:
        "../workflow_scripts/preprocess.py"
