"""Methods: where the implementation of each is, by reference, and how it is loaded.

The workflow asks which module a job will load without importing it: with torch that would cost seconds.
"""

from importlib import import_module
from typing import Any


def module(implementation: str) -> str:
    """The module of `module:name`."""
    return implementation.partition(":")[0]


def loaded(implementation: str) -> Any:
    """The class or function of `module:name`; no other method's module is imported."""
    return getattr(import_module(module(implementation)), implementation.partition(":")[2])
