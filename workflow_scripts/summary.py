import json

from detour import logs, metrics
from detour.store import Made

logs.to_file(snakemake.log[0])
settings = json.loads(snakemake.params.settings)
metrics.summarise(
    snakemake.input.evaluated,
    snakemake.input.trained,
    snakemake.input.verdicts,
    **dict(snakemake.output.items()),
    made=Made(settings, snakemake.params.code, snakemake.threads),
    **settings,
)
