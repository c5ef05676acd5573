from detour import verdicts
from detour.store import named
from job import begin

_, made = begin(snakemake)
verdicts.judge(
    named(snakemake.input.images),
    named(snakemake.input.activations),
    **dict(snakemake.output.items()),
    made=made,
)
