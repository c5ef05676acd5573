"""Methods: where the implementation of each is, by reference, and how it is loaded.

A reference is `package.module:name`, or `file.py:name` with a path from the working folder. The workflow
asks which module a job will load without importing it: with torch that would cost seconds.
"""

import sys
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from detour.errors import InputError
from detour.spelling import listed

EXPECTED = "file.py:name, or package.module:name of what is installed"


def is_reference(name: str) -> bool:
    """Whether it says where code is, and is no name of this project's."""
    return ":" in name


def split(reference: str) -> tuple[str, str]:
    """Its file or module, and the name in it."""
    place, _, name = reference.rpartition(":")
    return place, name


def module(implementation: str) -> str:
    """The module of `module:name`."""
    return split(implementation)[0]


def loaded(reference: str) -> Any:
    """The class or function of a reference; no other method's module is imported.

    Raises
    ------
    InputError
        If there is none.
    """
    place, name = split(reference)
    try:
        found = _of_file(Path(place).resolve()) if place.endswith(".py") else import_module(place)
    # Whatever the code raises when it is imported; how far it got is in its own traceback.
    except Exception as error:
        raise InputError(
            f"cannot import {place!r} of {reference!r} ({type(error).__name__}: {error}); expected {EXPECTED}"
        ) from error
    try:
        return attrgetter(name)(found)
    except AttributeError:
        near = get_close_matches(name, [other for other in dir(found) if not other.startswith("_")])
        meant = f"; did you mean {listed(near)}?" if near else f", expected {EXPECTED}"
        raise InputError(f"found no {name!r} in {place!r}{meant}") from None


@cache
def _of_file(path: Path) -> ModuleType:
    """The module of a file, under a name that no installed module has; what is beside it can be imported."""
    name = str(path)
    if (spec := spec_from_file_location(name, path)) is None or spec.loader is None:
        raise ImportError("it is no Python file")
    # Behind everything else: a file that is called like a library does not replace it.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    found = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(found)
    except BaseException:
        del sys.modules[name]
        raise
    return found
