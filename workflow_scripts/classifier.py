import json

import torch

from detour import classifiers, images, logs
from detour.classifiers import Training
from detour.store import Made

logs.to_file(snakemake.log[0])
torch.set_num_threads(snakemake.threads)
settings = json.loads(snakemake.params.settings)
made = Made(settings.copy(), snakemake.params.code)
dataset = images.dataset(**settings.pop("dataset"), seed=settings["seed"])
training = settings.pop("training")
classifiers.prepare(
    snakemake.output[0],
    dataset=dataset,
    training=Training(**training) if training else None,
    made=made,
    **settings,
)
