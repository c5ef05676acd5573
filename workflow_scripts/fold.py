import json

from detour import folds, logs

logs.to_file(snakemake.log[0])
folds.deal(snakemake.input[0], snakemake.output[0], **json.loads(snakemake.params.settings))
