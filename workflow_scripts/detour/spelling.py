"""Messages about names that do not exist."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

SHOWN = 12

# Of a value in a message, in characters.
LONGEST = 200


def unknown(key: str, found: Any, allowed: Iterable[Any]) -> str:
    """Say what was found, what is allowed, and which allowed name was perhaps meant."""
    names = [shown(str(name)) for name in allowed]
    near = get_close_matches(str(found)[:LONGEST], names, n=3)
    meant = f"; did you mean `{'`, `'.join(near)}`?" if near else ""
    return f"{key}: found {quoted(found)}, allowed: {listed(names)}{meant}"


def listed(names: Sequence[str]) -> str:
    """Names separated by commas; of many, the first ones and their number."""
    first = [shown(name) for name in names[:SHOWN]]
    return ", ".join(first if len(names) <= SHOWN else [*first, f"... ({len(names)} in all)"])


def shown(name: str) -> str:
    """A file's name as text of one line; bytes that are no UTF-8, and line ends, are escaped.

    Examples
    --------
    >>> print(shown("a\\udcff\\n.png"))
    a\\udcff\\n.png
    """
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", _escaped, name)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def quoted(found: Any) -> str:
    """A value as it is written; of a long one, the beginning."""
    text = repr(found)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
