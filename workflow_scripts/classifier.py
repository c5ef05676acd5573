import json

import torch

from detour import classifiers, images, logs
from detour.classifiers import Training
from detour.store import Made

logs.to_file(snakemake.log[0])
settings = json.loads(snakemake.params.settings)
# Not those that --cores leaves to the job: their number changes floats.
threads = settings.pop("threads", 1)
torch.set_num_threads(threads)
made = Made(settings.copy(), snakemake.params.code, threads)
if "training" in settings:
    settings["training"] = Training(**settings["training"])
    settings["dataset"] = images.dataset(**settings["dataset"])
classifiers.prepare(snakemake.output[0], made=made, **settings)
