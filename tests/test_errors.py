import ast
from pathlib import Path

import pytest

import detour
from detour import config, errors, store

LIBRARY = Path(detour.__file__).parent


def test_one_family_catches_what_is_wrong_with_files_and_with_keys(tmp_path):
    (tmp_path / "a.zarr.zip").write_text("no store")
    for wrong in (
        lambda: store.read(tmp_path / "a.zarr.zip"),
        lambda: config.load({}),
    ):
        with pytest.raises(detour.DetourError):
            wrong()


def test_they_are_the_errors_that_python_has_for_it_too():
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.RunError, RuntimeError)


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_raises_outside_of_the_family(path):
    raised = {
        node.exc.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
    }
    assert not raised & {"ValueError", "RuntimeError", "KeyError", "TypeError", "Exception"}
