from detour import controls
from detour.options.controls import control
from job import begin

settings, made = begin(snakemake)
settings["control"] = control(settings["control"])
controls.change(**snakemake.input, out=snakemake.output[0], made=made, **settings)
