"""Strengths: one attack or control at several, of which every one is an entry of its own to the stages."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from detour.options import controls
from detour.options.attacks import Attack
from detour.options.base import shortest

# By section, for each entry of the spread configuration, which of the written ones it is from.
Places = dict[str, list[int]]


def spread(settings: dict[str, Any]) -> tuple[dict[str, Any], Places]:
    """A configuration with an entry for each of several strengths, called `{name}-{strength}`.

    Of an attack that is its `eps`; of a control, what its method has in place of it.

    Parameters
    ----------
    settings
        As read from YAML; what is no entry with a list of strengths stays as it is, for the checks to tell.

    Returns
    -------
    dict, dict
        The configuration, and where each entry of the sections stood.
    """
    places: Places = {}
    for section, key_of in SECTIONS.items():
        if isinstance(asked := settings.get(section), list):
            found = [(i, one) for i, entry in enumerate(asked) for one in _entries(entry, key_of)]
            settings = settings | {section: [entry for _, entry in found]}
            places[section] = [i for i, _ in found]
    return settings, places


def _entries(entry: Any, key_of: Callable[[Any], str]) -> list[Any]:
    key = key_of(entry.get("method")) if isinstance(entry, dict) else ""
    several = entry.get(key) if key else None
    numbers = isinstance(several, list) and all(isinstance(value, int | float) for value in several)
    if not several or not numbers or not isinstance(name := entry.get("name"), str):
        return [entry]
    return [
        entry | {key: value, "name": f"{name}-{value}".replace(".", "_")} for value in map(shortest, several)
    ]


def _of_control(method: Any) -> str:
    option = controls.METHODS.get(method) if isinstance(method, str) else None
    return option.strength if option else ""


# Which key of an entry may be a list, by its method.
SECTIONS: dict[str, Callable[[Any], str]] = {"attacks": lambda method: "eps", "controls": _of_control}


def placed(lines: Sequence[str], places: Places) -> list[str]:
    """Lines on a spread configuration, with entries by the number that they were written at, each once."""

    def written(match: re.Match[str]) -> str:
        section, at = match[1], int(match[2])
        stood = places.get(section, [])
        return f"{section}[{stood[at] if at < len(stood) else at}]"

    found = rf"^({'|'.join(SECTIONS)})\[(\d+)\]"
    return list(dict.fromkeys(re.sub(found, written, line) for line in lines))


def together(attacks: Sequence[Attack]) -> list[list[Attack]]:
    """Attacks that differ in nothing but their budget, of each two at least, weakest first."""
    alike: dict[str, list[Attack]] = {}
    for attack in attacks:
        if attack.budget is not None:
            alike.setdefault(repr(attack.model_dump(exclude={"name", "eps"})), []).append(attack)
    return [sorted(found, key=lambda a: a.budget or 0) for found in alike.values() if len(found) > 1]
