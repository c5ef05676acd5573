import json

from detour import distances, logs
from detour.store import Made

logs.to_file(snakemake.log[0])
settings = json.loads(snakemake.params.settings)
distances.measure(
    snakemake.input.activations,
    snakemake.input.medoids,
    snakemake.output[0],
    threads=snakemake.threads,
    made=Made(settings, snakemake.params.code, snakemake.threads),
)
