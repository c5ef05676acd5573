"""Outside: detectors that are no part of this project."""

import inspect
from typing import TYPE_CHECKING, Any

from detour import methods
from detour.detectors.versions import STORES
from detour.errors import InputError
from detour.options.detectors import PAPER_S, Outside

if TYPE_CHECKING:
    from detour.detectors import Detector

METHODS = ("fit", "score", "state", "restored")


def made(options: Outside) -> "Detector":
    """The untrained detector."""
    return methods.loaded(options.method)(**options.options)


def described(options: Outside) -> dict[str, Any]:
    """What the workflow has to know of it before any job, from attributes of the detector.

    Those are `reads` (of `STORES`; required), `seeded` (False: it draws nothing, and is trained with the
    first seed alone), `nearest` (0: the number of nearest reference images that it asks for) and `measure`
    (the paper's: representative and metric of the distances).

    Raises
    ------
    InputError
        If it is no detector, or cannot be made with its options.
    """
    kind = methods.loaded(options.method)
    try:
        inspect.signature(kind).bind(**options.options)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{options.method} cannot be made with its options: {error}; correct `options`"
        ) from None
    detector = kind(**options.options)
    if lacking := [name for name in METHODS if not callable(getattr(detector, name, None))]:
        raise InputError(f"{options.method} has no {', '.join(lacking)}, expected {', '.join(METHODS)}")
    reads = list(getattr(detector, "reads", []))
    allowed = [name for name in STORES if name != "joint"]
    if not reads or set(reads) - set(allowed):
        raise InputError(
            f"{options.method}.reads: found {reads}, expected a list of some of {', '.join(allowed)}"
        )
    return {
        "reads": reads,
        "seeded": bool(getattr(detector, "seeded", False)),
        "nearest": int(getattr(detector, "nearest", 0)),
        "measure": list(getattr(detector, "measure", PAPER_S)),
    }
