"""Protocols: which attacks a detector knows in training, and which it is tested on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    genuine
        Controls in training and validation.
    changed
        Controls in the test.
    """

    protocol: str
    name: str
    known: Sequence[str]
    tested: Sequence[str]
    genuine: Sequence[str] = ()
    changed: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.protocol} {self.name}"


# Of each attack or control, in the order of the run.
Families = Mapping[str, str]


def _others(families: Families, family: str) -> list[str]:
    return [name for name, kin in families.items() if kin != family]


def _known(attacks: Families, controls: Families, genuine: bool) -> Iterator[Case]:
    """Every attack in training and test, as in Caldelli et al. 2019, and every control in the test."""
    yield Case("known", ALL, [*attacks], [*attacks], [*controls] if genuine else [], [*controls])


def _unknown(attacks: Families, controls: Families, genuine: bool) -> Iterator[Case]:
    """Each attack in turn is the only one in the test; none of its family is in training or validation.

    So is each control, of a detector that knows any.
    """
    among = [*controls] if genuine else []
    for name, family in attacks.items():
        yield Case("unknown", name, _others(attacks, family), [name], among)
    for name in among:
        yield Case("unknown", name, [*attacks], [], _others(controls, controls[name]), [name])


def _transfer(attacks: Families, controls: Families, genuine: bool) -> Iterator[Case]:
    """Each attack in turn is the only one in training; all are in the test."""
    for alone in attacks:
        yield Case("transfer", alone, [alone], [*attacks], [*controls] if genuine else [])


# A new protocol is one function and one line here, and its name in the schema.
PROTOCOLS: dict[str, Callable[[Families, Families, bool], Iterator[Case]]] = {
    "known": _known,
    "unknown": _unknown,
    "transfer": _transfer,
}


def cases(
    protocols: Sequence[str], attacks: Families, controls: Families | None = None, *, genuine: bool = False
) -> list[Case]:
    """The detectors that protocols ask for.

    Parameters
    ----------
    attacks, controls
        The families of those of the run.
    genuine
        Whether controls are in training.
    """
    return [case for name in protocols for case in PROTOCOLS[name](attacks, controls or {}, genuine)]
