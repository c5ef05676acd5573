"""Errors that are for the user: what is wrong with which file or key, what was expected, and what to do."""


class DetourError(Exception):
    """Every error that this library raises on purpose."""


class InputError(DetourError, ValueError):
    """A file, a key of the configuration or an argument is not what was expected."""


class RunError(DetourError, RuntimeError):
    """Something went wrong while it ran, such as an attack that left its budget."""
