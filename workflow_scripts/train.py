from detour import detectors
from detour.detectors.versions import Run
from detour.options.detectors import detector
from job import begin

settings, made = begin(snakemake)
settings["options"] = detector(settings["options"])
read = dict(snakemake.input.items())
folds = read.pop("folds")
detectors.train(
    Run.of(settings.get("controls", ()), **read),
    folds,
    snakemake.output.model,
    snakemake.output.history,
    made=made,
    **settings,
)
