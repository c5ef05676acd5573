"""The report: RESULTS.md from the figures of every machine that has measured."""

import inspect
import json
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.sections import SECTIONS, module

HEAD = """# Results of `make bench`

Rendered from `results/*.json` by `python -m benchmarks --render`; `python -m benchmarks SECTION ...` measures
again. Each section runs in a process of its own. Candidates take turns, A B C A B C ..., after one call of
each: `seconds` is the median of the rounds, `ratio` the median of the ratios to the baseline of the same
round, `spread` their least and greatest. Ratios are what counts; seconds are this machine's.
"""


def render(folder: Path) -> None:
    """Write RESULTS.md into `folder` from all `results/{section}-{device}.json` in it."""
    found = [json.loads(path.read_text()) for path in sorted((folder / "results").glob("*.json"))]
    parts = [HEAD]
    for name in SECTIONS:
        about = module(name)
        title, _, text = (inspect.getdoc(about) or name).partition("\n")
        parts += [f"## {title.rstrip('.')}", text.strip(), f"**Goal.** {about.GOAL}"]
        measured = [figures for figures in found if figures["section"] == name]
        parts += [part for figures in measured for part in (_machine(figures), tables(figures))]
        parts += [] if measured else ["Not measured."]
        parts += ["\n".join(f"- {note}" for note in about.NOTES)]
    (folder / "RESULTS.md").write_text("\n\n".join(part.strip("\n") for part in parts if part) + "\n")


def tables(figures: dict[str, Any]) -> str:
    """The tables of a section as one machine measured them, in Markdown."""
    parts = []
    for table in figures["tables"]:
        cells = [{column: _cell(cell) for column, cell in row.items()} for row in table["rows"]]
        grid = tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True)
        parts += [f"**{table['title']}**", grid, *([table["note"]] if table["note"] else [])]
    return "\n\n".join(parts)


def _machine(figures: dict[str, Any]) -> str:
    machine = figures["machine"]
    title = machine["CPU"] if machine["GPU"] == "none" else machine["GPU"]
    facts = "; ".join(f"{key}: {value}" for key, value in machine.items())
    quick = " **Sizes of --quick: no figures.**" if figures["quick"] else ""
    return (
        f"### On {title}\n\n{facts}. Measured on {figures['date']} in {figures['seconds']} s, with a peak of"
        f" {figures['peak_mb']:,} MB.{quick}"
    )


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
