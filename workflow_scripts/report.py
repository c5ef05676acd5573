from detour import report
from detour.options.run import Run
from job import begin

settings, _ = begin(snakemake)
run = Run.model_validate(settings["config"])
report.write(snakemake.output[0], run=run, notes=settings["notes"], **dict(snakemake.input.items()))
