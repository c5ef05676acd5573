import os
import re
import subprocess
import sys

from detour import logs


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
    # What is wrong comes first, for who reads the end of a log that the workflow prints.
    log = (tmp_path / "a.log").read_text()
    assert re.fullmatch(r"(?s)[\d ,:-]+ the job failed: KeyError: 'key'\nTraceback.*KeyError: 'key'\n", log)


def test_names_are_logged_whatever_the_locale_and_whatever_their_bytes(tmp_path):
    script = (
        f"import logging, os; from detour import logs; logs.to_file({str(tmp_path / 'a.log')!r});"
        " logging.getLogger('detour.stage').warning('left out: %s', os.fsdecode(b'\\xe4\\xb8\\xad \\xff'));"
        " raise ValueError('\\u6587 \\udcff')"
    )
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        env=environment,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert "Logging error" not in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("ValueError: ")
    log = (tmp_path / "a.log").read_text("utf-8")
    assert "\\udcff" in log
    assert "the job failed: ValueError: \u6587 \\udcff" in log


def test_a_warning_of_a_job_is_on_the_console_too(tmp_path):
    script = (
        f"import logging, warnings; from detour import logs; logs.to_file({str(tmp_path / 'a.log')!r});"
        " logging.getLogger('detour.stage').warning('left out: x'); logging.getLogger('detour').info('going on');"
        " warnings.warn('of a library')"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stderr == "warning: left out: x\n"
    log = (tmp_path / "a.log").read_text()
    assert all(text in log for text in ("left out: x", "going on", "of a library"))


def test_a_job_that_takes_long_is_heard_of_seldom_with_the_name_of_its_log(tmp_path):
    script = (
        f"import logging, time; from detour import logs; logs.SECONDS_SILENT = 1; logs.to_file({str(tmp_path / '50%d.log')!r});"
        " say = logging.getLogger('detour').info; say('one'); time.sleep(1.1); say('two'); say('three')"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stderr == f"{tmp_path / '50%d.log'}: two\n"
    assert "three" in (tmp_path / "50%d.log").read_text()
