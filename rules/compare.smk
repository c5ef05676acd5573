import os

# Other runs are not made by this one. Snakemake would tell an error of an input's function with a traceback, and knows
# its targets only after this; a file is looked for where it does, below a module's prefix or in a storage.
if (
    workflow.is_main_process
    and workflow.modifier.modify_rulename("compare") in sys.argv
):
    try:
        console.comparable(
            PLAN, lambda path: exists(workflow.modifier.modify_path(path))
        )
    except ValueError as error:
        raise WorkflowError(error) from None


rule compare:
    input:
        reads("compare"),
        # With object storage, this stays where the workflow is.
        template=local(Path(os.path.relpath(SCRIPTS), "detour", "comparison.html")),
    output:
        "<run>/comparison/comparison.html",
        "<run>/comparison/comparison.csv",
    log:
        "<run>/logs/compare.log",
    benchmark:
        "<run>/benchmarks/compare.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(2500),
        runtime=growing(30),
    # Without `expected`: other configurations asked for the other runs.
    params:
        settings=told("compare"),
        code=runs("compare"),
    message:
        "compare: put finished runs beside this one"
    script:
        "../workflow_scripts/compare.py"
