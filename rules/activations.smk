rule activation:
    input:
        reads("activation"),
    output:
        "<run>/activations/{set}.zarr.zip",
    log:
        "<run>/logs/activations/{set}.log",
    benchmark:
        "<run>/benchmarks/activations/{set}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: PLAN.run.threads
    resources:
        gpu=GPU,
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        settings=told("activation"),
        code=runs("activation"),
        expected=expected,
    message:
        "activations: run {wildcards.set} through the classifier"
    script:
        "../workflow_scripts/activation.py"


rule reference_activation:
    input:
        reads("reference_activation"),
    output:
        "<run>/activations/reference/{shard}.zarr.zip",
    log:
        "<run>/logs/activations/reference/{shard}.log",
    benchmark:
        "<run>/benchmarks/activations/reference/{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: max(PLAN.run.threads, PLAN.workers)
    resources:
        gpu=GPU,
        mem_mb=growing(3000 + 500 * PLAN.workers),
        runtime=growing(120),
    params:
        settings=told("reference_activation"),
        code=runs("reference_activation"),
        expected=expected,
    message:
        f"activations: run reference shard {{wildcards.shard}} of {len(PLAN.shards)} through the classifier"
    script:
        "../workflow_scripts/reference_activation.py"
