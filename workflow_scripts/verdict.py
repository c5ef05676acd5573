from detour import logs, verdicts
from detour.store import named

logs.to_file(snakemake.log[0])
verdicts.judge(named(snakemake.input.images), named(snakemake.input.activations), **snakemake.output)
