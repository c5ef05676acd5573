rule verdict:
    input:
        reads("verdict"),
    output:
        csv("verdicts"),
        report(
            csv("outcomes"),
            caption="../report/outcomes.rst",
            category="Tables",
            subcategory=PLAN.run.run,
            labels={"table": "outcomes"},
        ),
        verdicts=artefact("verdicts"),
        outcomes=artefact("outcomes"),
    log:
        "<run>/logs/verdicts.log",
    benchmark:
        "<run>/benchmarks/verdicts.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(1500),
        runtime=growing(10),
    params:
        settings=told("verdict"),
        code=runs("verdict"),
        expected=expected,
    message:
        "verdicts: what the attacks did to every image"
    script:
        "../workflow_scripts/verdict.py"
