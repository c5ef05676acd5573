rule control:
    input:
        reads("control"),
    output:
        "<run>/images/{control}.zarr.zip",
    log:
        "<run>/logs/images/{control}.log",
    benchmark:
        "<run>/benchmarks/images/{control}.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(2500),
        runtime=growing(60),
    params:
        settings=told("control"),
        code=runs("control"),
        expected=expected,
    message:
        "controls: change the test images by {wildcards.control}"
    script:
        "../workflow_scripts/control.py"
