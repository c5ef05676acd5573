from detour import metrics
from job import begin

settings, made = begin(snakemake)
metrics.summarise(**dict(snakemake.input.items()), **dict(snakemake.output.items()), made=made, **settings)
