"""Messages about names that do not exist."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

SHOWN = 12


def unknown(key: str, found: Any, allowed: Iterable[Any]) -> str:
    """Say what was found, what is allowed, and which allowed name was perhaps meant."""
    names = [str(name) for name in allowed]
    near = get_close_matches(str(found), names, n=3)
    meant = f"; did you mean `{'`, `'.join(near)}`?" if near else ""
    return f"{key}: found {found!r}, allowed: {listed(names)}{meant}"


def listed(names: Sequence[str]) -> str:
    """Names separated by commas; of many, the first ones and their number."""
    return ", ".join(names if len(names) <= SHOWN else [*names[:SHOWN], f"... ({len(names)} in all)"])
