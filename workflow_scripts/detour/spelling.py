"""Messages about names that do not exist."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

SHOWN = 12

# Of a value in a message, in characters.
LONGEST = 200


def unknown(key: str, found: Any, allowed: Iterable[Any]) -> str:
    """Say what was found, what is allowed, and which allowed name was perhaps meant."""
    names = [str(name) for name in allowed]
    near = get_close_matches(str(found)[:LONGEST], names, n=3)
    meant = f"; did you mean `{'`, `'.join(near)}`?" if near else ""
    return f"{key}: found {shown(found)}, allowed: {listed(names)}{meant}"


def listed(names: Sequence[str]) -> str:
    """Names separated by commas; of many, the first ones and their number."""
    return ", ".join(names if len(names) <= SHOWN else [*names[:SHOWN], f"... ({len(names)} in all)"])


def shown(found: Any) -> str:
    """A value as it is written; of a long one, the beginning."""
    text = repr(found)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
