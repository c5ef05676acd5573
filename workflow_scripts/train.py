import json

import torch

from detour import detectors, logs
from detour.compute import Dask
from detour.detectors import Run
from detour.store import Made

logs.to_file(snakemake.log[0])
torch.set_num_threads(snakemake.threads)
settings = json.loads(snakemake.params.settings)
dask = Dask(snakemake.threads, **json.loads(snakemake.params.dask))
made = Made(settings.copy(), snakemake.params.code, snakemake.threads)
stores = {name: snakemake.input.get(name, ()) for name in ("distances", "activations", "references")}
run = Run.of(**stores, dask=dask)
detectors.train(
    run, snakemake.input.folds, snakemake.output.model, snakemake.output.history, made=made, **settings
)
