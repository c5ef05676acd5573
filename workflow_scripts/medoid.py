import json

from detour import logs, medoids
from detour.store import Made

logs.to_file(snakemake.log[0])
settings = json.loads(snakemake.params.settings)
medoids.find(
    snakemake.input,
    snakemake.output[0],
    threads=snakemake.threads,
    made=Made(settings, snakemake.params.code, snakemake.threads),
    **settings,
)
