rule summary:
    input:
        evaluated=EVALUATED,
        trained=HISTORIES,
        verdicts=TABLES["verdicts"],
    output:
        scores="<run>/scores.csv",
        histories="<run>/histories.csv",
        metrics=report(
            "<run>/metrics.csv", caption="../report/metrics.rst", category="Tables"
        ),
        summary=report(
            "<run>/summary.csv", caption="../report/summary.rst", category="Tables"
        ),
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
