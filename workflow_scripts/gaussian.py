from detour import gaussians
from job import begin

settings, made = begin(snakemake)
gaussians.fit(snakemake.input.references, snakemake.output[0], made=made, **settings)
