from detour import squeezed
from job import begin

settings, made = begin(snakemake)
squeezed.extract(**snakemake.input, out=snakemake.output[0], made=made, **settings)
