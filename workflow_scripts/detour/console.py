"""Console: what every start of the workflow does and says, and what its end prints."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from detour import config, folders, manifest, provenance
from detour.errors import InputError
from detour.plan import COMPARED, Plan

SHOWN = ["detector", "protocol", "measure", "cell", "value", "low", "high"]


def prepare(scripts: Path) -> None:
    """Set the environment of jobs, which take this library from the folder of their scripts.

    Raises
    ------
    InputError
        If Python is where jobs cannot be started from.
    """
    # Snakemake calls scripts by an unquoted path (snakemake#2645).
    if not one_word(sys.executable):
        raise InputError(
            f"Python is at {sys.executable}, and Snakemake starts jobs by a command line that such a path"
            " breaks; make the environment (.venv) in a folder whose path has no spaces nor quotes, or call"
            " it by a link that has none"
        )
    # Use this checkout's library: the code digest covers only it.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(scripts), os.getenv("PYTHONPATH")]))
    # Threads of several jobs on the same cores are not to spin while they wait for each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def one_word(path: str) -> bool:
    """Whether a shell takes a path for one word, and for nothing else."""
    return not re.search(r"[\s\"'\\$&;|<>()*?\[\]`#!{}~]", path)


def settings(path: Path) -> dict[str, Any]:
    """A configuration as it is written.

    Raises
    ------
    InputError
        If it is no YAML, or no mapping.
    """
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no YAML ({error}); mend it") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: found {type(found).__name__}, expected a mapping of keys to values")
    return found


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
    run = config.load(settings, Path("results", str(settings.get("run")), "outside.json"), again=first)
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


def comparable(plan: Plan, there: Callable[[str], bool]) -> None:
    """Look whether the runs that this one is to be compared with are finished.

    Parameters
    ----------
    there
        Whether there is a file of this path.

    Raises
    ------
    InputError
        If `compare` names none, or one that is not finished.
    """
    plan.compare()
    lacking = (
        (i, name, [path for path in COMPARED.values() if not there(f"results/{name}/{path}")])
        for i, name in enumerate(plan.run.compare)
    )
    problems = [
        f"compare[{i}]: found {name!r}, and no results/{name}/{paths[0]}, which a finished run has; finish"
        " that run by its own configuration, or leave it out"
        for i, name, paths in lacking
        if paths
    ]
    if problems:
        raise config.ConfigError(problems)


def record(plan: Plan, root: Path) -> None:
    """Write down how this start makes the run; `root` is the workflow's folder."""
    provenance.record(Path("results", plan.run.run), root, sys.argv[1:])


def show_layers(plan: Plan) -> None:
    """Print the modules of the network, what each puts out for an image, and which are compared."""
    from tabulate import tabulate

    rows = [[*row, "compared" if row[0] in plan.layers else ""] for row in config.modules(plan.run)]
    heads = ["module", "class", "puts out", "auto", "layers"]
    print(tabulate(rows, headers=heads, disable_numparse=True), flush=True)


def show_result(plan: Plan) -> None:
    """Print the summary, what may not be relied on, and where the report is."""
    # Not above: every start of Snakemake, also in a job of a cluster, would import them.
    from tabulate import tabulate

    from detour import chance, histories, tables

    folder = Path("results", plan.run.run)
    paths = [folder / f"{name}{tables.ENDING}" for name in ("summary", "verdicts", "histories")]
    # Of what was only touched, and in an object storage, there is none.
    if not all(path.is_file() and path.stat().st_size for path in paths):
        return
    summary, verdicts, trained = (tables.read(path) for path in paths)
    # Of controls there is nothing to say at a rate that the validation is too small for.
    shown = summary[summary["population"] == "all"][SHOWN].dropna(subset="value")
    # Names that look like numbers are names.
    names = [i for i, name in enumerate(SHOWN) if name not in ("value", "low", "high")]
    print(f"\n{tabulate(shown, headers='keys', floatfmt='.3f', showindex=False, disable_numparse=names)}\n")
    guessed = chance.warnings(verdicts.to_dict("records"), len(plan.run.dataset.classes))
    for line in [*guessed, *histories.warnings(trained.to_dict("records"))]:
        print(f"warning: {line}\n")
    print(f"report: {(folder / 'report.html').resolve()}\n")
