import re
import subprocess
import sys

import pytest

from detour import logs
from detour.spelling import unknown


def test_progress_passes_on_what_it_counts_and_says_what_is_left(caplog, monkeypatch):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(logs.time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level("INFO", "detour"):
        assert list(logs.progress("abcdef", 6, "letters")) == list("abcdef")
    # Four seconds an item and at most a line every ten.
    assert [r.message for r in caplog.records] == [
        "letters: 3 of 6 (50 %), 12 s left",
        "letters: 6 of 6 (100 %), 0 s left",
        "letters: 6 of 6 in 28.0 s",
    ]


def test_an_uncaught_exception_ends_in_the_log(tmp_path):
    script = f"from detour import logs; logs.to_file({str(tmp_path / 'a.log')!r}); {{}}['key']"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.strip() == "KeyError: 'key'"
    assert re.search(r"(?s)the job failed.*Traceback.*KeyError: 'key'", (tmp_path / "a.log").read_text())


@pytest.mark.parametrize(
    ("found", "allowed", "message"),
    [
        ("fgms", ["fgsm", "noise"], "key: found 'fgms', allowed: fgsm, noise; did you mean `fgsm`?"),
        (3, ["fgsm"], "key: found 3, allowed: fgsm"),
    ],
)
def test_a_name_that_is_not_there_gets_the_nearest_that_is(found, allowed, message):
    assert unknown("key", found, allowed) == message


def test_a_long_list_of_names_is_cut():
    assert "name11, ... (40 in all)" in unknown("key", "x", [f"name{i}" for i in range(40)])
