from detour import detectors
from detour.detectors.versions import Run
from job import begin

settings, made = begin(snakemake)
read = dict(snakemake.input.items())
folds, model = read.pop("folds"), read.pop("model")
detectors.evaluate(
    Run.of(settings.get("controls", ()), **read), folds, model, snakemake.output[0], made=made, **settings
)
