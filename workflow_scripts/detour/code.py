"""Digests of code, so that a job reruns when the meaning of its code changes, and only then."""

import ast
import hashlib
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


def digest(script: str | Path) -> str:
    """Digest of a script and of every module beside it that it imports, directly or not.

    Comments, docstrings and layout do not count.

    Parameters
    ----------
    script
        A Python file; its modules are searched for in its folder, as Python does when it runs the file.
    """
    script = Path(script).resolve()
    text = "".join(
        f"{path.relative_to(script.parent)}\n{_meaning(path, script.parent).text}\n"
        for path in sorted(_reached(script))
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def libraries(script: str | Path) -> dict[str, str]:
    """Feature releases (`2.15` of 2.15.1) of the libraries that a script computes with.

    Imports inside functions do not count, such as that of scikit-learn for the digits.
    """
    script = Path(script).resolve()
    names = {name for path in _reached(script) for name in _meaning(path, script.parent).imported}
    used = sorted(NUMERIC[name] for name in names & NUMERIC.keys())
    return {name: ".".join(version(name).split(".")[:2]) for name in used}


def _reached(script: Path) -> set[Path]:
    seen: set[Path] = set()
    queue = [script]
    while queue:
        path = queue.pop()
        if path not in seen:
            seen.add(path)
            queue.extend(_meaning(path, script.parent).files)
    return seen


class _Meaning(NamedTuple):
    """Source without comments and docstrings, its own files and the libraries that it imports."""

    text: str
    files: tuple[Path, ...]
    imported: frozenset[str]


@cache
def _meaning(path: Path, root: Path) -> _Meaning:
    tree = ast.parse(path.read_text(), str(path))
    names: set[str] = set()
    package = path.parent.relative_to(root).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.update([module, *(f"{module}.{alias.name}" for alias in node.names)])
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    files = (
        candidate
        for name in names
        for candidate in (
            root.joinpath(*name.split(".")).with_suffix(".py"),
            root.joinpath(*name.split("."), "__init__.py"),
        )
    )
    imported = frozenset(
        name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
    )
    return _Meaning(ast.unparse(tree), tuple(file for file in files if file.is_file()), imported)
