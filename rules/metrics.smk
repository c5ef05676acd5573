rule summary:
    input:
        evaluated=EVALUATED,
        images=IMAGES.values(),
        activations=ACTIVATIONS.values(),
    output:
        scores="<run>/scores.csv",
        summary=report(
            "<run>/summary.csv", caption="../report/summary.rst", category="Tables"
        ),
        outcomes=report(
            "<run>/outcomes.csv", caption="../report/outcomes.rst", category="Tables"
        ),
    log:
        "<run>/logs/summary.log",
    benchmark:
        "<run>/benchmarks/summary.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(1500),
        runtime=growing(10),
    params:
        code=digest("summary.py"),
    message:
        "metrics: AUC over folds, and what the attacks did"
    script:
        "../workflow_scripts/summary.py"
