rule neighbour:
    input:
        activations="<run>/activations/{set}.zarr.zip",
        references=REFERENCES,
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
        settings=settings(**SEARCHED),
        code=digest("neighbour.py"),
        dask=dask,
    message:
        f"neighbours: find the {SEARCHED['k']} nearest reference images of {{wildcards.set}}"
    script:
        "../workflow_scripts/neighbour.py"
