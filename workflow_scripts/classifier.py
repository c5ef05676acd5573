import json

import torch

from detour import classifiers, images, logs
from detour.classifiers import Training
from detour.store import Made

logs.to_file(snakemake.log[0])
torch.set_num_threads(snakemake.threads)
settings = json.loads(snakemake.params.settings)
made = Made(settings.copy(), snakemake.params.code, snakemake.threads)
if "training" in settings:
    settings["training"] = Training(**settings["training"])
    settings["dataset"] = images.dataset(**settings["dataset"])
classifiers.prepare(snakemake.output[0], made=made, **settings)
