import json

import torch

from detour import detectors, logs
from detour.detectors.versions import STORES, Run
from detour.store import Made

logs.to_file(snakemake.log[0])
torch.set_num_threads(snakemake.threads)
settings = json.loads(snakemake.params.settings)
stores = {name: snakemake.input.get(name, ()) for name in STORES}
run = Run.of(**stores)
detectors.evaluate(
    run,
    snakemake.input.folds,
    snakemake.input.model,
    snakemake.output[0],
    made=Made(settings, snakemake.params.code, snakemake.threads),
    **settings,
)
