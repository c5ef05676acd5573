import json

from detour import logs, metrics

logs.to_file(snakemake.log[0])
metrics.summarise(
    snakemake.input.evaluated,
    snakemake.input.trained,
    snakemake.input.verdicts,
    **snakemake.output,
    **json.loads(snakemake.params.settings),
)
