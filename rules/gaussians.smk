rule gaussian:
    input:
        reads("gaussian"),
    output:
        "<run>/gaussians/{layer}.zarr.zip",
    log:
        "<run>/logs/gaussians/{layer}.log",
    benchmark:
        "<run>/benchmarks/gaussians/{layer}.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=of_joint(6000, 2000),
        runtime=of_joint(60, 20),
    params:
        settings=told("gaussian"),
        code=runs("gaussian"),
        expected=expected,
        dask=dask,
    message:
        "gaussians: fit the classes' means and covariance at {wildcards.layer}"
    script:
        "../workflow_scripts/gaussian.py"
