from detour import adaptive, logs

logs.to_file(snakemake.log[0])
adaptive.tabulate(snakemake.input, snakemake.output[0])
