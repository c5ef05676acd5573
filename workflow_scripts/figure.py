import json

from detour import figures, logs

logs.to_file(snakemake.log[0])
figures.draw(
    svg=snakemake.output.svg,
    pdf=snakemake.output.pdf,
    inputs=dict(snakemake.input.items()),
    **json.loads(snakemake.params.settings),
)
