rule distance:
    input:
        activations="<run>/activations/{set}.zarr.zip",
        representatives=lambda wildcards: REPRESENTATIVES[wildcards.representative],
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
        settings=lambda wildcards: settings(
            representative=wildcards.representative, metric=wildcards.metric
        ),
        code=digest("distance.py"),
        dask=dask,
    message:
        "distances: measure {wildcards.set} against every {wildcards.representative} ({wildcards.metric})"
    script:
        "../workflow_scripts/distance.py"
