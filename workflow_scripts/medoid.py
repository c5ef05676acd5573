from detour import medoids
from job import begin

settings, made = begin(snakemake)
medoids.find(snakemake.input.references, snakemake.output[0], made=made, **settings)
