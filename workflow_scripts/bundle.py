from detour import bundle
from job import begin

settings, made = begin(snakemake)
bundle.write(snakemake.output[0], **dict(snakemake.input.items()), made=made, **settings)
