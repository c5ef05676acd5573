from pathlib import Path

from detour.compared import compare
from job import begin

begin(snakemake)
compare([Path(board).parent for board in snakemake.input.boards], Path(snakemake.output[0]).parent)
