from detour import datasets, images
from job import begin

settings, made = begin(snakemake)
dataset = datasets.dataset(settings.pop("dataset"))
images.collect(dataset, snakemake.output[0], workers=snakemake.threads, made=made, **settings)
