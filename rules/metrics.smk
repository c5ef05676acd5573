rule summary:
    input:
        reads("summary"),
    output:
        csv("scores"),
        csv("histories"),
        report(
            csv("metrics"),
            caption="../report/metrics.rst",
            category="Tables",
            subcategory=PLAN.run.run,
            labels={"table": "metrics"},
        ),
        report(
            csv("summary"),
            caption="../report/summary.rst",
            category="Tables",
            subcategory=PLAN.run.run,
            labels={"table": "summary"},
        ),
        scores=artefact("scores"),
        histories=artefact("histories"),
        metrics=artefact("metrics"),
        summary=artefact("summary"),
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
        settings=told("summary"),
        code=runs("summary"),
        expected=expected,
    message:
        "metrics: what the scores amount to, with intervals"
    script:
        "../workflow_scripts/summary.py"
