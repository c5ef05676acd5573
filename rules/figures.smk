from detour import code
from detour.handover import text

# Every figure is drawn by one rule of this form.
for figure, job in PLAN.figures.items():

    rule:
        name:
            f"figure_{figure.replace('-', '_')}"
        input:
            **job.reads,
        output:
            svg=report(
                f"<run>/figures/{figure}.svg",
                caption=f"../report/{figure}.rst",
                category="Figures",
                subcategory=PLAN.run.run,
                labels={"figure": figure},
            ),
            pdf=f"<run>/figures/{figure}.pdf",
            csv=f"<run>/figures/{figure}.csv",
        log:
            f"<run>/logs/figures/{figure}.log",
        benchmark:
            f"<run>/benchmarks/figures/{figure}.tsv"
        conda:
            "../envs/torch.yaml"
        resources:
            mem_mb=growing(2000),
            runtime=growing(10),
        params:
            settings=text(job.told),
            code=code.meaning(SCRIPTS / job.script, *job.methods),
            expected=expected,
        message:
            f"figures: draw {figure}"
        script:
            "../workflow_scripts/figure.py"
