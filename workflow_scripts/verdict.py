from detour import logs, verdicts
from detour.store import Made, named

logs.to_file(snakemake.log[0])
verdicts.judge(
    named(snakemake.input.images),
    named(snakemake.input.activations),
    **dict(snakemake.output.items()),
    made=Made({}, snakemake.params.code, snakemake.threads),
)
