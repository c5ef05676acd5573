from pathlib import Path

from detour import provenance, report
from detour.options.run import Run
from job import begin

settings, _ = begin(snakemake)
run = Run.model_validate(settings["config"])
out = Path(snakemake.output[0])
made = provenance.recalled(out.parent)
report.write(out, run=run, notes=settings["notes"], made=made, **dict(snakemake.input.items()))
