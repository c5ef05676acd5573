from detour import attacks, datasets
from detour.options.attacks import attack
from job import begin

settings, made = begin(snakemake)
settings["attack"] = attack(settings["attack"])
settings.pop("content", None)
if "dataset" in settings:
    settings["dataset"] = datasets.dataset(settings["dataset"])
attacks.perturb(**snakemake.input, out=snakemake.output[0], made=made, **settings)
