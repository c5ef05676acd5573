CLASSIFIER = PLAN.run.classifier


rule classifier:
    input:
        # Its digest is one of the params, so that touching it or copying it means nothing. Snakemake would take
        # a name in brackets for a wildcard or a variable, even from a function.
        (
            [local(ancient(CLASSIFIER.file))]
            if CLASSIFIER.file and not set("{}<>") & set(CLASSIFIER.file)
            else []
        ),
    output:
        "<run>/classifier.pt",
    log:
        "<run>/logs/classifier.log",
    benchmark:
        "<run>/benchmarks/classifier.tsv"
    conda:
        "../envs/torch.yaml"
    threads: PLAN.run.threads
    resources:
        gpu=GPU,
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        settings=told("classifier"),
        code=runs("classifier"),
    message:
        f"classifier: {CLASSIFIER.model}, weights {CLASSIFIER.weights}".replace(
            "{", "{{"
        ).replace("}", "}}")
    script:
        "../workflow_scripts/classifier.py"
