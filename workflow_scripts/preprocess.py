from detour import preprocessed
from job import begin

settings, made = begin(snakemake)
preprocessed.extract(**dict(snakemake.input.items()), out=snakemake.output[0], made=made, **settings)
