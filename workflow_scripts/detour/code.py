"""Digests of code, so that a job reruns when the meaning of its code changes, and only then."""

import ast
import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    packages_distributions,
    version,
)
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from detour.errors import InputError
from detour.methods import EXPECTED, is_reference, split

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
    return _of(_reached(script, modules), script.parent)


def _of(files: Iterable[Path], root: Path) -> str:
    text = "".join(f"{path.relative_to(root)}\n{_meaning(path, root).text}\n" for path in sorted(files))
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
def meaning(script: Path, *used: str) -> str:
    """Its digest, and which libraries its numbers are from: if this is another, it has to run again.

    Parameters
    ----------
    script
        As for `digest`.
    used
        What it loads by name besides: modules of this project, and references to code from outside.
    """
    modules = [name for name in used if not is_reference(name)]
    releases = [f"{name} {release}" for name, release in libraries(script, *modules).items()]
    others = [f"{name} {outside(name)}" for name in used if is_reference(name)]
    return ", ".join([digest(script, *modules), *releases, *others])


def outside(reference: str) -> str:
    """What code from outside this project means: if this is another, what runs it has to run again.

    Of a file, the digest of it and of what it imports from its own folder, and the releases of the libraries
    that it imports; of an installed package, its release; of a package that is installed from where it is
    written, or is only on the path, the digest of all its files.

    Raises
    ------
    InputError
        If there is no such file or package.
    """
    place, _ = split(reference)
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise InputError(f"found no file {place!r} of {reference!r} in {Path.cwd()}, expected {EXPECTED}")
        try:
            releases = _releases(path)
            return " ".join([digest(path), *(f"{name} {release}" for name, release in releases.items())])
        except (SyntaxError, ValueError) as error:
            raise InputError(f"{place}: found what is no Python ({error}); correct it") from None
    package = place.partition(".")[0]
    if package in sys.stdlib_module_names:
        return f"Python {platform.python_version()}"
    installed = _distribution(package)
    if installed and not _edited(installed):
        return f"{installed.name} {installed.version}"
    try:
        spec = find_spec(package)
    except ValueError:
        spec = None
    if spec is None or not spec.origin:
        raise InputError(
            f"found no package {package!r} of {reference!r}; install it into this environment (for libraries"
            f" of attacks, docs/methods.md says how), or use {EXPECTED}"
        )
    origin = Path(spec.origin)
    if not spec.submodule_search_locations:
        return digest(origin)
    return _of(origin.parent.rglob("*.py"), origin.parent.parent)


def _releases(file: Path) -> dict[str, str]:
    """Releases of all libraries that a file from outside gets its numbers from, whichever they are."""
    names = {name for path in _reached(file, ()) for name in _meaning(path, file.parent).imported}
    local = {path.stem for path in file.parent.glob("*.py")}
    found = map(_distribution, sorted(names - sys.stdlib_module_names - local - {"detour", ""}))
    return {installed.name: _feature(installed.version) for installed in found if installed}


@cache
def _distribution(package: str) -> Distribution | None:
    """What installed a package; most are called like it, and to look for the others takes long."""
    try:
        return distribution(package)
    except PackageNotFoundError:
        names = packages_distributions().get(package)
        return distribution(names[0]) if names else None


def _edited(installed: Distribution) -> bool:
    """Whether it runs from where it is written (`pip install --editable`)."""
    about = json.loads(installed.read_text("direct_url.json") or "{}")
    return about.get("dir_info", {}).get("editable", False)


@cache
def _release(name: str) -> str:
    return _feature(version(name))


def _feature(version: str) -> str:
    return ".".join(version.split(".")[:2])


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
