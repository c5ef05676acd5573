rule attack:
    input:
        classifier="<run>/classifier.pt",
        images=IMAGES["original"],
    output:
        "<run>/images/{attack}.zarr.zip",
    log:
        "<run>/logs/images/{attack}.log",
    benchmark:
        "<run>/benchmarks/images/{attack}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=growing(3000),
        runtime=growing(120),
    params:
        settings=lambda wildcards: settings(
            attack=ATTACKS[wildcards.attack],
            **starts(ATTACKS[wildcards.attack]),
            seed=config["seed"],
            precision=config["precision"],
            **COMPUTE,
        ),
        code=digest("attack.py"),
    message:
        "attacks: perturb the test images by {wildcards.attack}"
    script:
        "../workflow_scripts/attack.py"
