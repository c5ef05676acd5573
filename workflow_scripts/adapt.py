import json

import torch

from detour import adaptive, logs
from detour.adaptive import Adaptive
from detour.store import Made

logs.to_file(snakemake.log[0])
settings = json.loads(snakemake.params.settings)
# Not those that --cores leaves to the job: their number changes floats.
threads = settings.pop("threads")
torch.set_num_threads(threads)
made = Made(settings.copy(), snakemake.params.code, threads)
adaptive.adapt(
    out=snakemake.output[0],
    adaptive=Adaptive(**settings.pop("adaptive")),
    made=made,
    **snakemake.input,
    **settings,
)
