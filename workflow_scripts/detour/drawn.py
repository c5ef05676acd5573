"""Drawn: which images of many are used, by a hash of what they are called; without torch or NumPy.

By a hash, since the draws of a random generator can change with a version of its library; and by name, so
that an image more changes at most one that is drawn.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b, sha256


def drawn(names: Iterable[str], at_most: int | None, seed: int, of: str) -> list[str]:
    """At most so many of the names, sorted; None: all.

    Parameters
    ----------
    of
        What they are of: a name of two classes is drawn for each anew.
    """
    found = sorted(names)
    if at_most is None or len(found) <= at_most:
        return found

    def place(name: str) -> bytes:
        return blake2b(f"{seed} {of}/{name}".encode("utf-8", "surrogatepass")).digest()

    return sorted(sorted(found, key=place)[:at_most])


def dealt(label: Sequence[int], names: Sequence[str]) -> list[int]:
    """Rows in an order whose every beginning has the classes in their shares."""
    of_class: defaultdict[int, list[int]] = defaultdict(list)
    for row in sorted(range(len(label)), key=lambda row: sha256(names[row].encode()).digest()):
        of_class[label[row]].append(row)
    # The j-th of n images of a class stands where j / n of the whole are dealt.
    place = {row: (j + 1) / len(rows) for rows in of_class.values() for j, row in enumerate(rows)}
    return sorted(range(len(label)), key=place.__getitem__)
