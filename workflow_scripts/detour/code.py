"""Digests of code, so that a job reruns when the meaning of its code changes, and only then."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


# Libraries that compute the results; others store, schedule or draw them.
NUMERIC = {
    "cleverhans": "cleverhans",
    "numpy": "numpy",
    "PIL": "pillow",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "torchvision": "torchvision",
}


def digest(script: str | Path, *modules: str) -> str:
    """Digest of a script and of every module beside it that it imports, directly or not.

    Comments, docstrings and layout do not count.

    Parameters
    ----------
    script
        A Python file; its modules are searched for in its folder, as Python does when it runs the file.
    modules
        What the script loads by name besides, `package.module`, which its imports do not show.

    Raises
    ------
    ModuleNotFoundError
        If one of the modules is not beside the script: the digest would not cover it.
    """
    script = Path(script).resolve()
    text = "".join(
        f"{path.relative_to(script.parent)}\n{_meaning(path, script.parent).text}\n"
        for path in sorted(_reached(script, modules))
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def libraries(script: str | Path, *modules: str) -> dict[str, str]:
    """Feature releases (`2.15` of 2.15.1) of the libraries that a script gets its numbers from.

    Parameters are those of `digest`. What a function imports where it needs it counts like the rest.
    """
    script = Path(script).resolve()
    names = {name for path in _reached(script, modules) for name in _meaning(path, script.parent).imported}
    found = sorted(NUMERIC[name] for name in names & NUMERIC.keys())
    return {name: _release(name) for name in found}


@cache
def meaning(script: Path, *modules: str) -> str:
    """Its digest, and which libraries its numbers are from: if this is another, it has to run again.

    Parameters are those of `digest`.
    """
    used = (f"{name} {version}" for name, version in libraries(script, *modules).items())
    return ", ".join([digest(script, *modules), *used])


@cache
def _release(name: str) -> str:
    return ".".join(version(name).split(".")[:2])


def _reached(script: Path, modules: Iterable[str]) -> set[Path]:
    seen: set[Path] = set()
    queue = [script]
    for name in modules:
        if not (files := _files([name], script.parent)):
            raise ModuleNotFoundError(
                f"{script}: its module {name!r} is not in {script.parent}, expected a module of this project;"
                " correct `implementation` in its options"
            )
        queue += files
    while queue:
        path = queue.pop()
        if path not in seen:
            seen.add(path)
            queue.extend(_meaning(path, script.parent).files)
    return seen


def _files(modules: Iterable[str], root: Path) -> tuple[Path, ...]:
    """Those of the modules that are files under `root`."""
    parts = [name.split(".") for name in modules]
    places = (
        place
        for path in parts
        for place in (root.joinpath(*path).with_suffix(".py"), root.joinpath(*path, "__init__.py"))
    )
    return tuple(place for place in places if place.is_file())


class _Meaning(NamedTuple):
    """Source without comments and docstrings, its own files and the libraries that it imports."""

    text: str
    files: tuple[Path, ...]
    imported: frozenset[str]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """A module or statement and all statements in it; not expressions, which are most of a tree."""
    yield node
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(node, field, ()):
            yield from _statements(inner)


@cache
def _meaning(path: Path, root: Path) -> _Meaning:
    tree = ast.parse(path.read_bytes(), str(path))
    names: set[str] = set()
    package = path.parent.relative_to(root).parts
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.update([module, *(f"{module}.{alias.name}" for alias in node.names)])
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    imported = frozenset(name.split(".")[0] for name in names)
    return _Meaning(ast.unparse(tree), _files(names, root), imported)
