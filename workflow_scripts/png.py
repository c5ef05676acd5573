from detour import pngs
from job import begin

begin(snakemake)
pngs.export(**snakemake.input, out=snakemake.output[0])
