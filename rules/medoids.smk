rule medoid:
    input:
        reads("medoid"),
    output:
        "<run>/medoids/{layer}.zarr.zip",
    log:
        "<run>/logs/medoids/{layer}.log",
    benchmark:
        "<run>/benchmarks/medoids/{layer}.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        settings=told("medoid"),
        code=runs("medoid"),
        expected=expected,
        dask=dask,
    message:
        "medoids: find every class's medoid at {wildcards.layer}"
    script:
        "../workflow_scripts/medoid.py"
