"""Sections: what is measured, each in a module of its own with `run(quick)`, `GOAL` and `NOTES`."""

import time
from dataclasses import asdict, dataclass
from datetime import date
from importlib import import_module
from types import ModuleType
from typing import Any

from benchmarks import timing
from benchmarks.machine import description

# A new section is one module and one line here. Its docstring says what is measured, GOAL what is asked for,
# NOTES (a list) what was tried and why a goal is missed, and `run(quick)` returns its tables.
SECTIONS = (
    "attacks", "decoding", "activations", "medoids", "distances", "neighbours", "detectors", "scoring", "layout",
    "growth", "checks", "reruns", "demo", "accelerator",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table of a section, as it was measured.

    Parameters
    ----------
    rows
        Cells by column; numbers stay numbers until they are rendered. A row may lack columns.
    note
        What this run found, beside the NOTES of the module: checks, what was skipped and why.
    """

    title: str
    rows: list[dict[str, str | float]]
    note: str = ""


def module(name: str) -> ModuleType:
    """The module of a section."""
    return import_module(f"benchmarks.{name}")


def measured(name: str, quick: bool) -> dict[str, Any]:
    """Run a section in this process.

    Parameters
    ----------
    quick
        With tiny sizes, whose figures mean nothing.

    Returns
    -------
    dict
        What `benchmarks.report.render` takes; JSON.
    """
    begin = time.perf_counter()
    tables = module(name).run(quick)
    return {
        "section": name,
        "machine": description(),
        "date": date.today().isoformat(),
        "quick": quick,
        "seconds": round(time.perf_counter() - begin),
        "peak_mb": round(timing.peak_mb()),
        "tables": [asdict(table) for table in tables],
    }
