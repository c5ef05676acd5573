import os

# Relative, so that a moved project is still the same project.
TEXTS = Path(os.path.relpath(ROOT), "report")
CAPTIONS = [
    *PLAN.figures,
    *(["controls-table"] if "controls" in PLAN.figures else []),
    *("summary", "known", "unknown", "populations", "operating", "outcomes"),
]


rule report:
    input:
        **PLAN.report().reads,
        # With object storage, these stay where the workflow is.
        template=local(TEXTS / "report.html"),
        captions=[local(TEXTS / f"{name}.rst") for name in CAPTIONS],
    output:
        report("<run>/report.html", caption="../report/page.rst", category="Report"),
    log:
        "<run>/logs/report.log",
    benchmark:
        "<run>/benchmarks/report.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(1500),
        runtime=growing(10),
    params:
        settings=told("report"),
        code=runs("report"),
        expected=expected,
    message:
        "report: write one page of it all"
    script:
        "../workflow_scripts/report.py"
