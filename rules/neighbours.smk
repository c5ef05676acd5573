rule neighbour:
    input:
        reads("neighbour"),
    output:
        "<run>/neighbours/{set}.zarr.zip",
    log:
        "<run>/logs/neighbours/{set}.log",
    benchmark:
        "<run>/benchmarks/neighbours/{set}.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2500),
        runtime=growing(30),
    params:
        settings=told("neighbour"),
        code=runs("neighbour"),
        expected=expected,
        dask=dask,
    message:
        "neighbours: find the nearest reference images of {wildcards.set}"
    script:
        "../workflow_scripts/neighbour.py"
