from detour import bundle, datasets
from job import begin

settings, made = begin(snakemake)
dataset = datasets.dataset(settings.pop("dataset"))
bundle.write(snakemake.output[0], **dict(snakemake.input.items()), dataset=dataset, made=made, **settings)
