import json

from detour import images, logs
from detour.store import Made

logs.to_file(snakemake.log[0])
settings = json.loads(snakemake.params.settings)
# Without threads: they decode images, and change no byte.
made = Made(settings.copy(), snakemake.params.code)
dataset = images.dataset(**settings.pop("dataset"))
images.collect(dataset, snakemake.output[0], workers=snakemake.threads, made=made, **settings)
