from detour import adaptive, logs
from detour.store import Made

logs.to_file(snakemake.log[0])
made = Made({}, snakemake.params.code, snakemake.threads)
adaptive.tabulate(snakemake.input, snakemake.output[0], made=made)
