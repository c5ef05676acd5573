import json

import torch

from detour import adaptive, logs
from detour.adaptive import Adaptive
from detour.store import Made

logs.to_file(snakemake.log[0])
torch.set_num_threads(snakemake.threads)
settings = json.loads(snakemake.params.settings)
made = Made(settings.copy(), snakemake.params.code, snakemake.threads)
adaptive.adapt(
    out=snakemake.output[0],
    adaptive=Adaptive(**settings.pop("adaptive")),
    made=made,
    **snakemake.input,
    **settings,
)
