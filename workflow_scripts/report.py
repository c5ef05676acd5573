import json

from detour import logs, report

logs.to_file(snakemake.log[0])
report.write(
    snakemake.output[0],
    config=json.loads(snakemake.params.settings),
    **json.loads(snakemake.params.notes),
    **dict(snakemake.input.items()),
)
