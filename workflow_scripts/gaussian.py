import json

from detour import gaussians, logs
from detour.compute import Dask
from detour.store import Made

logs.to_file(snakemake.log[0])
settings = json.loads(snakemake.params.settings)
dask = Dask(snakemake.threads, **json.loads(snakemake.params.dask))
gaussians.fit(
    snakemake.input,
    snakemake.output[0],
    dask=dask,
    made=Made(settings, snakemake.params.code, snakemake.threads),
    **settings,
)
