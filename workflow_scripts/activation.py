import json

import torch

from detour import activations, logs
from detour.store import Made

logs.to_file(snakemake.log[0])
torch.set_num_threads(snakemake.threads)
settings = json.loads(snakemake.params.settings)
activations.extract(
    snakemake.input.classifier,
    snakemake.input.images,
    snakemake.output[0],
    made=Made(settings, snakemake.params.code, snakemake.threads),
    **settings,
)
