"""Protocols: which attacks a detector knows in training, and which it is tested on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

ALL = "all"


@dataclass(frozen=True)
class Case:
    """One of the detectors that a protocol asks for.

    Parameters
    ----------
    protocol
        Its name.
    name
        `all`, or the attack that tells the case from the protocol's others.
    known
        Attacks in training and validation.
    tested
        Attacks in the test.
    """

    protocol: str
    name: str
    known: Sequence[str]
    tested: Sequence[str]

    def __str__(self) -> str:
        return f"{self.protocol} {self.name}"


# Name, attacks in training and attacks in the test.
_Parts = tuple[str, Sequence[str], Sequence[str]]

# Of each attack, in the order of the run.
Families = Mapping[str, str]


def _known(families: Families) -> list[_Parts]:
    """Every attack in training and test, as in Caldelli et al. 2019."""
    return [(ALL, list(families), list(families))]


def _unknown(families: Families) -> list[_Parts]:
    """Each attack in turn is the only one in the test; none of its family is in training or validation."""
    return [
        (name, [other for other, kin in families.items() if kin != family], [name])
        for name, family in families.items()
    ]


def _transfer(families: Families) -> list[_Parts]:
    """Each attack in turn is the only one in training; all are in the test."""
    return [(alone, [alone], list(families)) for alone in families]


# A new protocol is one function and one line here, and its name in the schema.
PROTOCOLS: dict[str, Callable[[Families], list[_Parts]]] = {
    "known": _known,
    "unknown": _unknown,
    "transfer": _transfer,
}


def cases(protocols: Sequence[str], families: Families) -> list[Case]:
    """The detectors that protocols ask for, given the attacks and their families."""
    return [Case(protocol, *parts) for protocol in protocols for parts in PROTOCOLS[protocol](families)]
