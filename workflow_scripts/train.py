import json

import torch

from detour import detectors, logs
from detour.detectors import Run
from detour.store import named

logs.to_file(snakemake.log[0])
torch.set_num_threads(snakemake.threads)
settings = json.loads(snakemake.params.settings)
run = Run(
    distances=named(snakemake.input.distances),
    activations=named(snakemake.input.activations),
    references=snakemake.input.references,
)
detectors.train(run, snakemake.input.folds, snakemake.output.model, snakemake.output.history, **settings)
