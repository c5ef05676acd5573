from detour import distances
from job import begin

settings, made = begin(snakemake)
distances.measure(
    snakemake.input.activations, snakemake.input.representatives, snakemake.output[0], made=made, **settings
)
