from detour import leaderboard
from detour.options.run import Run
from job import begin

settings, _ = begin(snakemake)
run = Run.model_validate(settings["config"])
leaderboard.write(snakemake.output[0], run=run, **dict(snakemake.input.items()))
