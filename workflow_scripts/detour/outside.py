"""Outside: what code that is no part of this project says of itself, asked in a process of its own.

The workflow starts for every job; to import a user's code, and torch with it, would take seconds each time,
and may do anything. So the answers are remembered, for as long as that code means the same.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from detour import code, methods
from detour.artefacts import TakenOverError, written
from detour.errors import InputError
from detour.options import attacks, detectors
from detour.options.base import Method
from detour.options.run import Run

# By section: options of an entry that was checked.
FAMILIES: dict[str, Callable[[dict[str, Any]], Method]] = {
    "attacks": attacks.attack,
    "detectors": detectors.detector,
}


def problems(run: Run, remembered: Path | None) -> list[str]:
    """Ask all that a configuration names, and fill in what they say; a line for each thing that is wrong.

    Parameters
    ----------
    remembered
        JSON file that keeps the answers between runs; None: they are not kept.
    """
    wrong: list[str] = []
    questions = {}
    for key, entry, family in _named(run):
        try:
            means = code.outside(entry.outside)
        except InputError as error:
            wrong.append(f"{key}: {error}")
        else:
            questions[key] = {"family": family, "entry": entry.model_dump(), "code": means}
    if wrong or not questions:
        return wrong
    answers = _answers(questions, remembered)
    for key, entry, _ in _named(run):
        if "problem" in answers[key]:
            wrong.append(f"{key}: {answers[key]['problem']}")
        elif isinstance(entry, detectors.Outside):
            entry._said.update(answers[key])
    return wrong


def _named(run: Run) -> Iterator[tuple[str, Any, str]]:
    for family in FAMILIES:
        for i, entry in enumerate(getattr(run, family)):
            if entry.outside:
                yield f"{family}[{i}]", entry, family


def _answers(questions: dict[str, Any], remembered: Path | None) -> dict[str, Any]:
    asked = json.dumps(questions, sort_keys=True)
    # A file that was cut, or of an earlier version, is written anew.
    with suppress(OSError, ValueError, LookupError, TypeError):
        if remembered and (kept := json.loads(remembered.read_text("utf-8")))["asked"] == asked:
            return kept["answers"]
    answers = _asked(asked)
    if remembered and not any("problem" in answer for answer in answers.values()):
        # Another Snakemake may ask at the same moment, and gets the same answers.
        with suppress(TakenOverError), written(remembered) as path:
            path.write_text(json.dumps({"asked": asked, "answers": answers}))
    return answers


@cache
def _asked(asked: str) -> dict[str, Any]:
    ran = answered("detour.outside", asked)
    if ran.returncode:
        said = ran.stderr.strip().splitlines() or [f"it ended with {ran.returncode}"]
        return {key: {"problem": f"importing it ended Python: {said[-1]}"} for key in json.loads(asked)}
    return json.loads(answer_of(ran))


def answered(module: str, question: str) -> subprocess.CompletedProcess[str]:
    """What a module answers to a question, in a process with the path that jobs have."""
    path = [str(Path(__file__).parents[1]), *filter(None, [os.getenv("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-P", "-m", module],
        input=question,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def answer_of(ran: subprocess.CompletedProcess[str]) -> str:
    """Its last line: what code from outside printed stands before."""
    return ran.stdout.splitlines()[-1]


def _described(question: dict[str, Any]) -> dict[str, Any]:
    entry = FAMILIES[question["family"]](question["entry"])
    try:
        return methods.loaded(entry.described)(entry)
    except InputError as error:
        return {"problem": str(error)}
    # Whatever the user's own code raises.
    except Exception as error:
        return {"problem": f"{entry.outside} raised {type(error).__name__} when it was made: {error}"}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    print("\n" + json.dumps({key: _described(question) for key, question in asked.items()}))
