from detour import adaptive
from job import begin

_, made = begin(snakemake)
adaptive.tabulate(snakemake.input.adapted, snakemake.output[0], made=made)
