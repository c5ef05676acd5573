rule medoid:
    input:
        REFERENCES,
    output:
        "<run>/medoids/{layer}.zarr.zip",
    log:
        "<run>/logs/medoids/{layer}.log",
    benchmark:
        "<run>/benchmarks/medoids/{layer}.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        settings=lambda wildcards: settings(layer=wildcards.layer),
        code=digest("medoid.py"),
    message:
        "medoids: find every class's medoid at {wildcards.layer}"
    script:
        "../workflow_scripts/medoid.py"
