from detour import activations
from job import begin

settings, made = begin(snakemake)
activations.extract(
    snakemake.input.classifier, snakemake.input.images, snakemake.output[0], made=made, **settings
)
