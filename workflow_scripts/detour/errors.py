"""Errors that are for the user: what is wrong with which file or key, what was expected, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager


class DetourError(Exception):
    """Every error that this library raises on purpose."""


class InputError(DetourError, ValueError):
    """A file, a key of the configuration or an argument is not what was expected."""


class RunError(DetourError, RuntimeError):
    """Something went wrong while it ran, such as an attack that left its budget."""


@contextmanager
def of(what: object) -> Iterator[None]:
    """Begin an error of the input by what it is of, such as a file and a layer."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
