from detour import figures
from job import begin

settings, _ = begin(snakemake)
figures.draw(
    svg=snakemake.output.svg, pdf=snakemake.output.pdf, inputs=dict(snakemake.input.items()), **settings
)
