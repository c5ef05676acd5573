import json

import torch

from detour import activations, images, logs
from detour.store import Made

logs.to_file(snakemake.log[0])
settings = json.loads(snakemake.params.settings)
# Not those that --cores leaves to the job: their number changes floats.
threads = settings.pop("threads")
torch.set_num_threads(threads)
made = Made(settings.copy(), snakemake.params.code, threads)
dataset = images.dataset(**settings.pop("dataset"))
activations.extract_reference(
    snakemake.input.classifier,
    dataset,
    snakemake.output[0],
    workers=snakemake.threads,
    made=made,
    **settings,
)
