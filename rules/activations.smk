rule activation:
    input:
        classifier="<run>/classifier.pt",
        images="<run>/images/{set}.zarr.zip",
    output:
        "<run>/activations/{set}.zarr.zip",
    log:
        "<run>/logs/activations/{set}.log",
    benchmark:
        "<run>/benchmarks/activations/{set}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        settings=settings(layers=LAYERS, **COMPUTE),
        code=digest("activation.py"),
    message:
        "activations: run {wildcards.set} through the classifier"
    script:
        "../workflow_scripts/activation.py"


rule reference_activation:
    input:
        classifier="<run>/classifier.pt",
    output:
        "<run>/activations/reference/{shard}.zarr.zip",
    log:
        "<run>/logs/activations/reference/{shard}.log",
    benchmark:
        "<run>/benchmarks/activations/reference/{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: max(config["threads"], config["dataset"].get("workers", 1))
    resources:
        gpu=GPU,
        mem_mb=growing(3000 + 500 * config["dataset"].get("workers", 1)),
        runtime=growing(120),
    params:
        settings=lambda wildcards: settings(
            layers=LAYERS,
            dataset=reference_of(int(wildcards.shard)),
            number=int(wildcards.shard),
            count=len(SHARDS),
            precision=config["precision"],
            **COMPUTE,
        ),
        code=digest("reference_activation.py"),
    message:
        f"activations: run reference shard {{wildcards.shard}} of {len(SHARDS)} through the classifier"
    script:
        "../workflow_scripts/reference_activation.py"
