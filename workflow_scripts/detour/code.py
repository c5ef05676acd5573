"""Digests of what code means, for jobs that must rerun when it changes and only then."""

import ast
import hashlib
from functools import cache
from pathlib import Path

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(script: str | Path) -> str:
    """Digest of a script and of every module beside it that it imports, directly or not.

    Comments, docstrings and layout do not count.

    Parameters
    ----------
    script
        A Python file; modules are looked for in its folder, as Python does when it runs it.
    """
    script = Path(script).resolve()
    seen: set[Path] = set()
    queue = [script]
    while queue:
        path = queue.pop()
        if path not in seen:
            seen.add(path)
            queue.extend(_meaning(path, script.parent)[1])
    text = "".join(
        f"{path.relative_to(script.parent)}\n{_meaning(path, script.parent)[0]}\n" for path in sorted(seen)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _meaning(path: Path, root: Path) -> tuple[str, tuple[Path, ...]]:
    """Source without comments and docstrings, and the files under `root` that it imports."""
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
    return ast.unparse(tree), tuple(file for file in files if file.is_file())
