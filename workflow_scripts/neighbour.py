from detour import neighbours
from job import begin

settings, made = begin(snakemake)
neighbours.find(
    snakemake.input.activations, snakemake.input.references, snakemake.output[0], made=made, **settings
)
