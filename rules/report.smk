# Relative, so that a moved project is still the same project.
TEXTS = Path(os.path.relpath(workflow.basedir), "report")
CAPTIONS = [
    *FIGURES,
    *("summary", "known", "unknown", "populations", "operating", "outcomes"),
]


rule report:
    input:
        # With object storage, these stay where the workflow is.
        template=local(TEXTS / "report.html"),
        captions=[local(TEXTS / f"{name}.rst") for name in CAPTIONS],
        figures=expand("<run>/figures/{figure}.svg", figure=FIGURES),
        images=IMAGES["original"],
        references=REFERENCES,
        verdicts=TABLES["verdicts"],
        outcomes=TABLES["outcomes"],
        histories=TABLES["histories"],
        metrics=TABLES["metrics"],
        summary=TABLES["summary"],
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
        settings=settings(**without(config, "dask")),
        notes=settings(notes=CONTENTS.get("leaked", [])),
        code=digest("report.py"),
    message:
        "report: write one page of it all"
    script:
        "../workflow_scripts/report.py"
