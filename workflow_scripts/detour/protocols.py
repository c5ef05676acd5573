"""Protocols: which attacks a detector knows in training, and which it is tested on."""

from collections.abc import Callable, Sequence
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


def _known(attacks: Sequence[str]) -> list[_Parts]:
    """Every attack in training and test, as in Caldelli et al. 2019."""
    return [(ALL, attacks, attacks)]


def _unknown(attacks: Sequence[str]) -> list[_Parts]:
    """Each attack in turn is left out of training and validation, and is the only one in the test."""
    return [(left_out, [a for a in attacks if a != left_out], [left_out]) for left_out in attacks]


def _transfer(attacks: Sequence[str]) -> list[_Parts]:
    """Each attack in turn is the only one in training; all are in the test."""
    return [(alone, [alone], attacks) for alone in attacks]


# A new protocol is one function and one line here, and its name in the schema.
PROTOCOLS: dict[str, Callable[[Sequence[str]], list[_Parts]]] = {
    "known": _known,
    "unknown": _unknown,
    "transfer": _transfer,
}


def cases(protocols: Sequence[str], attacks: Sequence[str]) -> list[Case]:
    """The detectors that protocols ask for, given the attacks."""
    return [Case(protocol, *parts) for protocol in protocols for parts in PROTOCOLS[protocol](attacks)]
