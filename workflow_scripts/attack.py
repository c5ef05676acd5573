import json

import torch

from detour import attacks, logs
from detour.attacks import Attack
from detour.store import Made

logs.to_file(snakemake.log[0])
torch.set_num_threads(snakemake.threads)
settings = json.loads(snakemake.params.settings)
made = Made(settings.copy(), snakemake.params.code, snakemake.threads)
attacks.perturb(
    snakemake.input.classifier,
    snakemake.input.images,
    snakemake.output[0],
    attack=Attack(**settings.pop("attack")),
    made=made,
    **settings,
)
