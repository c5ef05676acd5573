rule image:
    output:
        "<run>/images/original.zarr.zip",
    log:
        "<run>/logs/images/original.log",
    benchmark:
        "<run>/benchmarks/images/original.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 2
    resources:
        mem_mb=growing(2500),
        runtime=growing(30),
    params:
        settings=told("image"),
        code=runs("image"),
    message:
        "images: store the test images"
    script:
        "../workflow_scripts/image.py"
