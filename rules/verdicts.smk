rule verdict:
    input:
        images=IMAGES.values(),
        activations=ACTIVATIONS.values(),
    output:
        CSV["verdicts"],
        report(CSV["outcomes"], caption="../report/outcomes.rst", category="Tables"),
        verdicts=TABLES["verdicts"],
        outcomes=TABLES["outcomes"],
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
        code=digest("verdict.py"),
    message:
        "verdicts: what the attacks did to every image"
    script:
        "../workflow_scripts/verdict.py"
