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

from detour import code, folders, methods
from detour.artefacts import TakenOverError, written
from detour.errors import InputError
from detour.options import attacks, controls, datasets, detectors
from detour.options.base import Method
from detour.options.run import Run

# By section: options of an entry that was checked.
FAMILIES: dict[str, Callable[[dict[str, Any]], Method]] = {
    "attacks": attacks.attack,
    "controls": controls.control,
    "dataset": datasets.dataset,
    "detectors": detectors.detector,
}
# What reads the images of a dataset.
READER = Path(__file__).parents[1] / "image.py"


def problems(run: Run, remembered: Path | None, *, again: bool = True) -> list[str]:
    """Ask all that a configuration names, and fill in what they say; a line for each thing that is wrong.

    Parameters
    ----------
    remembered
        JSON file that keeps the answers between runs; None: they are not kept.
    again
        Whether to look at the files that datasets were read from: if they changed, those are asked again.
    """
    wrong: list[str] = []
    questions = {}
    for key, entry, family in _named(run):
        try:
            reads_images = isinstance(entry, datasets.Dataset)
            means = code.meaning(READER, *entry.code) if reads_images else code.outside(entry.outside)
        except InputError as error:
            wrong.append(f"{key}: {error}")
        else:
            # Of a dataset, all images are read: another choice among them is no other question.
            told = entry.model_dump(exclude=getattr(entry, "choosing", None))
            questions[key] = {"family": family, "entry": told, "code": means}
    if wrong or not questions:
        return wrong
    answers = _answers(questions, remembered, again)
    for key, entry, _ in _named(run):
        if "problem" in answers[key]:
            wrong.append(f"{key}: {answers[key]['problem']}")
        elif isinstance(entry, detectors.Outside | datasets.Indexed):
            entry._said.update(answers[key])
    return wrong


def _named(run: Run) -> Iterator[tuple[str, Any, str]]:
    for family in FAMILIES:
        section = getattr(run, family)
        if isinstance(section, list):
            yield from (
                (f"{family}[{i}]", entry, family) for i, entry in enumerate(section) if entry.described
            )
        elif section.described:
            yield family, section, family


def _answers(questions: dict[str, Any], remembered: Path | None, again: bool) -> dict[str, Any]:
    """The answers to all questions, of which those alone are asked that were not before."""
    kept: dict[str, Any] = {}
    # A file that was cut, or of an earlier version, is written anew.
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        if remembered:
            known = json.loads(remembered.read_text("utf-8"))
            kept = {key: known[key] for key in questions if _holds(known.get(key), questions[key], again)}
    if new := {key: question for key, question in questions.items() if key not in kept}:
        answers = _asked(json.dumps(new, sort_keys=True))
        kept |= {key: {"question": new[key], "answer": answers[key]} for key in new}
        if remembered and (good := {key: e for key, e in kept.items() if "problem" not in e["answer"]}):
            # Another Snakemake may ask at the same moment, and gets the same answers.
            with suppress(TakenOverError), written(remembered) as path:
                path.write_text(json.dumps(good))
    return {key: entry["answer"] for key, entry in kept.items()}


def _holds(known: Any, question: Any, again: bool) -> bool:
    """Whether what is remembered answers a question, and the files that were read for it are as they were."""
    if not isinstance(known, dict) or known["question"] != question:
        return False
    answer = known["answer"]
    if not again or not answer.get("files"):
        return True
    # What was new then may have changed since; what is gone is told by whoever reads it.
    with suppress(OSError):
        return all(answer["state"].values()) and folders.state(answer["files"]) == answer["state"]
    return False


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
        what = entry.outside or question["family"]
        return {"problem": f"{what} raised {type(error).__name__} when it was made: {error}"}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    print("\n" + json.dumps({key: _described(question) for key, question in asked.items()}))
