import json

from detour import folds, logs
from detour.store import Made

logs.to_file(snakemake.log[0])
settings = json.loads(snakemake.params.settings)
made = Made(settings, snakemake.params.code, snakemake.threads)
folds.deal(snakemake.input[0], snakemake.output[0], made=made, **settings)
