import json

import torch

from detour import attacks, images, logs
from detour.attacks import Attack
from detour.store import Made

logs.to_file(snakemake.log[0])
settings = json.loads(snakemake.params.settings)
# Not those that --cores leaves to the job: their number changes floats.
threads = settings.pop("threads")
torch.set_num_threads(threads)
made = Made(settings.copy(), snakemake.params.code, threads)
if "dataset" in settings:
    settings["dataset"] = images.dataset(**settings["dataset"])
attacks.perturb(
    snakemake.input.classifier,
    snakemake.input.images,
    snakemake.output[0],
    attack=Attack(**settings.pop("attack")),
    made=made,
    **settings,
)
