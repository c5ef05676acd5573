"""Strengths: one attack at several budgets, of which every one is an attack of its own to the stages."""

import re
from collections.abc import Sequence
from typing import Any

from detour.options.attacks import Attack
from detour.options.base import shortest


def spread(settings: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """A configuration with an entry for each of several `eps`, called `{name}-{eps}`, and where each stood.

    Parameters
    ----------
    settings
        As read from YAML; what is no attack with a list of budgets stays as it is, for the checks to tell.
    """
    asked = settings.get("attacks")
    if not isinstance(asked, list):
        return settings, []
    found: list[Any] = []
    places: list[int] = []
    for i, entry in enumerate(asked):
        several = entry.get("eps") if isinstance(entry, dict) else None
        numbers = isinstance(several, list) and all(isinstance(eps, int | float) for eps in several)
        if several and numbers and isinstance(name := entry.get("name"), str):
            several = [shortest(eps) for eps in several]
            entries = [entry | {"eps": eps, "name": f"{name}-{eps}".replace(".", "_")} for eps in several]
        else:
            entries = [entry]
        found += entries
        places += [i] * len(entries)
    return settings | {"attacks": found}, places


def placed(lines: Sequence[str], places: Sequence[int]) -> list[str]:
    """Lines on a spread configuration, with attacks by the number that they were written at, each once."""

    def written(match: re.Match[str]) -> str:
        at = int(match[1])
        return f"attacks[{places[at] if at < len(places) else at}]"

    return list(dict.fromkeys(re.sub(r"^attacks\[(\d+)\]", written, line) for line in lines))


def together(attacks: Sequence[Attack]) -> list[list[Attack]]:
    """Attacks that differ in nothing but their budget, of each two at least, weakest first."""
    alike: dict[str, list[Attack]] = {}
    for attack in attacks:
        if attack.budget is not None:
            alike.setdefault(repr(attack.model_dump(exclude={"name", "eps"})), []).append(attack)
    return [sorted(found, key=lambda a: a.budget or 0) for found in alike.values() if len(found) > 1]
