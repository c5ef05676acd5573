from detour import adaptive
from detour.options.adaptive import Attack
from job import begin

settings, made = begin(snakemake)
settings["attack"] = Attack(**settings["attack"])
adaptive.adapt(out=snakemake.output[0], made=made, **snakemake.input, **settings)
