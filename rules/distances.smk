rule distance:
    input:
        reads("distance"),
    output:
        "<run>/distances/{representative}-{metric}/{set}.zarr.zip",
    log:
        "<run>/logs/distances/{representative}-{metric}/{set}.log",
    benchmark:
        "<run>/benchmarks/distances/{representative}-{metric}/{set}.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=told("distance"),
        code=runs("distance"),
        expected=expected,
        dask=dask,
    message:
        "distances: measure {wildcards.set} against every {wildcards.representative} ({wildcards.metric})"
    script:
        "../workflow_scripts/distance.py"
