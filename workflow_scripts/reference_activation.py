import json

import torch

from detour import activations, images, logs
from detour.store import Made

logs.to_file(snakemake.log[0])
torch.set_num_threads(snakemake.threads)
settings = json.loads(snakemake.params.settings)
made = Made(settings.copy(), snakemake.params.code, snakemake.threads)
dataset = images.dataset(**settings.pop("dataset"))
activations.extract_reference(
    snakemake.input.classifier,
    dataset,
    snakemake.output[0],
    workers=snakemake.threads,
    made=made,
    **settings,
)
