"""The catalogue: every method of a family, by the name that a configuration calls it by.

A method is what a module of the family's package says it is; no list names it besides.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar, get_args

from detour.options.base import Options

Kind = TypeVar("Kind", bound=Options)


def found(package: str, path: list[str], base: type[Kind], key: str = "method") -> dict[str, type[Kind]]:
    """The options that the modules of a package have, by the value of the key that chooses them.

    Parameters
    ----------
    package, path
        Its name, and where its modules are.
    base
        What all options of the family are.
    """
    modules = [import_module(f"{package}.{entry.name}") for entry in iter_modules(path)]
    options = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    named = {name: option for option in options for name in get_args(option.model_fields[key].annotation)}
    return dict(sorted(named.items()))
