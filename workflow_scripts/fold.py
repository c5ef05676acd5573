from detour import folds
from job import begin

settings, made = begin(snakemake)
folds.deal(snakemake.input.images, snakemake.output[0], made=made, **settings)
