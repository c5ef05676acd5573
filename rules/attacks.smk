rule attack:
    input:
        reads("attack"),
    output:
        "<run>/images/{attack}.zarr.zip",
    log:
        "<run>/logs/images/{attack}.log",
    benchmark:
        "<run>/benchmarks/images/{attack}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: PLAN.run.threads
    resources:
        gpu=GPU,
        mem_mb=growing(3000),
        runtime=growing(120),
    params:
        settings=told("attack"),
        code=runs("attack"),
        expected=expected,
    message:
        "attacks: perturb the test images by {wildcards.attack}"
    script:
        "../workflow_scripts/attack.py"
