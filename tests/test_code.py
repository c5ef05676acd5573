import os
import subprocess
import sys
from pathlib import Path

import pytest

from detour import code

SCRIPT = "import numpy\nfrom lib import near\nnear.go()\n"
NEAR = '"""Doc."""\nfrom lib import far\n\ndef go():\n    """Doc."""\n    return far.CONSTANT\n'
FAR = "from lib.further import THING\nCONSTANT = THING + 1\n"
FURTHER = "THING = 1\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "lib").mkdir()
    for name, text in {
        "script.py": SCRIPT,
        "lib/__init__.py": "",
        "lib/near.py": NEAR,
        "lib/far.py": FAR,
        "lib/further.py": FURTHER,
        "lib/stranger.py": "X = 1\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def digest(project: Path) -> str:
    code._meaning.cache_clear()
    return code.digest(project / "script.py")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("script.py", "# A comment.\n" + SCRIPT),
        ("lib/near.py", NEAR.replace("Doc.", "Another doc.")),
        ("lib/near.py", NEAR.replace("    return", "\n    # why\n    return")),
        ("lib/stranger.py", "X = 2\n"),
    ],
)
def test_what_means_the_same_has_the_same_digest(project, file, text):
    before = digest(project)
    (project / file).write_text(text)
    assert digest(project) == before


@pytest.mark.parametrize("file", ["script.py", "lib/near.py", "lib/far.py", "lib/further.py"])
def test_a_changed_meaning_changes_the_digest_however_far_away(project, file):
    before = digest(project)
    path = project / file
    path.write_text(
        path.read_text().replace("1", "2") if "1" in path.read_text() else path.read_text() + "\nY = 3\n"
    )
    assert digest(project) != before


@pytest.mark.parametrize("locale", ["C", "C.ISO-8859-1", "C.UTF-8"])
def test_the_digest_is_the_same_in_every_locale(project, locale):
    """Source is UTF-8, whatever the machine takes text for."""
    (project / "lib/further.py").write_text("THING = 1\nNAME = '\u732b \u00e9'\n", encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-c", f"from detour import code; print(code.digest({str(project / 'script.py')!r}))"],
        env=os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == digest(project)


def test_relative_imports_are_followed(project):
    (project / "lib/near.py").write_text("from . import far\nfrom .further import THING\n")
    before = digest(project)
    (project / "lib/further.py").write_text("THING = 2\n")
    assert digest(project) != before


def test_what_is_loaded_by_name_counts_with_all_that_it_imports(project):
    def digests() -> tuple[str, str]:
        code._meaning.cache_clear()
        return code.digest(project / "script.py"), code.digest(project / "script.py", "lib.stranger")

    alone, with_stranger = digests()
    (project / "lib/stranger.py").write_text("from lib.unheard import Y\n\nX = Y\n")
    (project / "lib/unheard.py").write_text("import scipy\n\nY = 1\n")
    assert digests()[0] == alone
    changed = digests()[1]
    assert changed != with_stranger
    (project / "lib/unheard.py").write_text("import scipy\n\nY = 2\n")
    assert digests()[1] != changed
    assert set(code.libraries(project / "script.py")) == {"numpy"}
    assert set(code.libraries(project / "script.py", "lib.stranger")) == {"numpy", "scipy"}
    with pytest.raises(
        ModuleNotFoundError, match=r"its module 'lib.strange' is not in .*; correct `implementation`"
    ):
        code.digest(project / "script.py", "lib.strange")


def test_libraries_are_those_that_give_numbers_by_their_feature_release(project, monkeypatch):
    def libraries() -> dict[str, str]:
        code._meaning.cache_clear()
        code._release.cache_clear()
        return code.libraries(project / "script.py")

    monkeypatch.setattr(code, "version", lambda name: {"numpy": "2.4.6", "pillow": "12.0.1"}[name])
    assert libraries() == {"numpy": "2.4"}
    far = "import json, zarr\nfrom PIL import Image\n"
    (project / "lib/far.py").write_text(far)
    assert libraries() == {"numpy": "2.4", "pillow": "12.0"}


LATE = {
    "a function": "def late():\n    import sklearn\n",
    "a method": "class A:\n    def late(self):\n        from sklearn import svm\n",
    "a function of a function": "def f():\n    def g():\n        import sklearn.svm as s\n",
    "a branch": "if True:\n    pass\nelse:\n    import sklearn\n",
    "a try": "try:\n    import sklearn\nexcept ImportError:\n    pass\n",
    "a handler": "try:\n    pass\nexcept ImportError:\n    import sklearn\n",
    "a with": "with open('x'):\n    import sklearn\n",
    "a match": "match 1:\n    case 1:\n        import sklearn\n",
}


@pytest.mark.parametrize("where", LATE)
def test_a_library_counts_wherever_it_is_imported(project, where):
    code._meaning.cache_clear()
    assert set(code.libraries(project / "script.py")) == {"numpy"}
    (project / "lib/further.py").write_text(f"THING = 1\n{LATE[where]}")
    code._meaning.cache_clear()
    assert set(code.libraries(project / "script.py")) == {"numpy", "scikit-learn"}
