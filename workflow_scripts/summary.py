from detour import logs, metrics
from detour.store import named

logs.to_file(snakemake.log[0])
metrics.summarise(
    snakemake.input.evaluated,
    named(snakemake.input.images),
    named(snakemake.input.activations),
    **snakemake.output,
)
