"""Console: what every start of the workflow does and says, and what its end prints."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detour import chance, config, folders, histories, manifest
from detour.plan import Plan

SHOWN = ("detector", "protocol", "measure", "cell", "value", "low", "high")


def planned(
    settings: dict[str, Any], files: Sequence[Path], *, first: bool, say: Callable[[str], None]
) -> Plan:
    """The plan of a configuration, which is checked, and of the network and the files that it names.

    Parameters
    ----------
    settings
        As read from YAML.
    files
        Where they are from.
    first
        Whether this is no job's start: a job takes what the workflow that started it found.
    say
        Called with the progress, if there are many files to read.

    Raises
    ------
    ConfigError
        With a line for each thing that is wrong.
    """
    for place in (Path.cwd(), Path(__file__).parents[2]):
        folders.refuse_braces(place)
    # Of two sections of one name, Snakemake takes the last.
    if first and (wrong := [line for path in files for line in config.misread(path)]):
        raise config.ConfigError(wrong)
    run = config.load(settings, Path("results", str(settings.get("run")), "outside.json"))
    config.allow_files(run)
    folder = Path("results", run.run)
    remembered = folder / "contents.json"
    # The network first: to read the images of ImageNet takes long.
    weights = manifest.weights(run, remembered, again=first, say=say)
    layers = config.layers(run, folder / "layers.json", weights)
    run = config.among(run, layers)
    return Plan(run, layers, manifest.contents(run, remembered, again=first, say=say))


def warnings(plan: Plan) -> list[str]:
    """What to say before a run starts; none of it stops the run."""
    return [*config.warnings(plan.run), *plan.contents["leaked"], *plan.contents["copied"]]


def show_layers(plan: Plan) -> None:
    """Print the modules of the network, what each puts out for an image, and which are compared."""
    from tabulate import tabulate

    rows = [[*row, "compared" if row[0] in plan.layers else ""] for row in config.modules(plan.run)]
    heads = ["module", "class", "puts out", "auto", "layers"]
    print(tabulate(rows, headers=heads, disable_numparse=True), flush=True)


def show_result(plan: Plan) -> None:
    """Print the summary, what may not be relied on, and where the report is."""
    folder = Path("results", plan.run.run)
    rows = [row for row in _rows(folder / "summary.csv") if row["population"] == "all"]
    # Of what was only touched, and in an object storage, there is none.
    if not rows:
        return
    # Not above: every start of Snakemake, also in a job of a cluster, would import it.
    from tabulate import tabulate

    # Names that look like numbers are names.
    names = [i for i, name in enumerate(SHOWN) if name not in ("value", "low", "high")]
    table = [{name: row[name] for name in SHOWN} for row in rows]
    print(f"\n{tabulate(table, headers='keys', floatfmt='.3f', disable_numparse=names)}\n")
    verdicts, trained = _rows(folder / "verdicts.csv"), _rows(folder / "histories.csv")
    for line in [*chance.warnings(verdicts, len(plan.run.dataset.classes)), *histories.warnings(trained)]:
        print(f"warning: {line}\n")
    print(f"report: {(folder / 'report.html').resolve()}\n")


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
