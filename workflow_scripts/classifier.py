from detour import classifiers, datasets
from detour.options.classifier import Training
from job import begin

settings, made = begin(snakemake)
settings.pop("content")
if "training" in settings:
    settings["training"] = Training(**settings["training"])
    settings["dataset"] = datasets.dataset(settings["dataset"])
classifiers.prepare(snakemake.output[0], made=made, **settings)
