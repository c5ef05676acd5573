import json

import torch

from detour import activations, logs
from detour.store import Made

logs.to_file(snakemake.log[0])
settings = json.loads(snakemake.params.settings)
# Not those that --cores leaves to the job: their number changes floats.
threads = settings.pop("threads")
torch.set_num_threads(threads)
activations.extract(
    snakemake.input.classifier,
    snakemake.input.images,
    snakemake.output[0],
    made=Made(settings, snakemake.params.code, threads),
    **settings,
)
