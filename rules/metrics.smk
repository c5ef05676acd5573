rule summary:
    input:
        evaluated=EVALUATED,
        trained=HISTORIES,
        verdicts=TABLES["verdicts"],
    output:
        CSV["scores"],
        CSV["histories"],
        report(CSV["metrics"], caption="../report/metrics.rst", category="Tables"),
        report(CSV["summary"], caption="../report/summary.rst", category="Tables"),
        scores=TABLES["scores"],
        histories=TABLES["histories"],
        metrics=TABLES["metrics"],
        summary=TABLES["summary"],
    log:
        "<run>/logs/summary.log",
    benchmark:
        "<run>/benchmarks/summary.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2500),
        runtime=growing(30),
    params:
        settings=settings(**config["metrics"], seed=config["seed"]),
        code=digest("summary.py"),
    message:
        "metrics: what the scores amount to, with intervals"
    script:
        "../workflow_scripts/summary.py"
