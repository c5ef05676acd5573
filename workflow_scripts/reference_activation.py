from detour import activations, datasets
from job import begin

settings, made = begin(snakemake)
dataset = datasets.dataset(settings.pop("dataset"))
activations.extract_reference(
    snakemake.input.classifier, dataset, snakemake.output[0], workers=snakemake.threads, made=made, **settings
)
