rule distance:
    input:
        activations="<run>/activations/{set}.zarr.zip",
        medoids=MEDOIDS,
    output:
        "<run>/distances/{set}.zarr.zip",
    log:
        "<run>/logs/distances/{set}.log",
    benchmark:
        "<run>/benchmarks/distances/{set}.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=settings(),
        code=digest("distance.py"),
        dask=dask,
    message:
        "distances: measure {wildcards.set} against the medoids"
    script:
        "../workflow_scripts/distance.py"
