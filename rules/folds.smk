rule fold:
    input:
        IMAGES["original"],
    output:
        TABLES["folds"],
        CSV["folds"],
    log:
        "<run>/logs/folds.log",
    benchmark:
        "<run>/benchmarks/folds.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        settings=settings(**config["folds"], seed=config["seed"]),
        code=digest("fold.py"),
    message:
        "folds: deal the test images"
    script:
        "../workflow_scripts/fold.py"
