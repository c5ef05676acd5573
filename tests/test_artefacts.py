import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detour.artefacts import TakenOverError, folder, written
from detour.errors import RunError


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_what_is_not_complete_is_not_there(tmp_path):
    with written(tmp_path / "a.csv") as part:
        part.write_text("half")
        assert not (tmp_path / "a.csv").exists()
    assert content(tmp_path) == {"a.csv": "half"}


def test_a_failure_leaves_the_old_artefact(tmp_path):
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(ZeroDivisionError), written(tmp_path / "a.csv") as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert content(tmp_path) == {"a.csv": "old"}


def test_a_folder_is_there_when_all_of_it_is(tmp_path):
    for text in ("old", "new"):
        with folder(tmp_path / "a") as part:
            (part / "b.txt").write_text(text)
            assert not (tmp_path / "a").exists() or content(tmp_path / "a") == {"b.txt": "old"}
    assert content(tmp_path / "a") == {"b.txt": "new"}
    with pytest.raises(ZeroDivisionError), folder(tmp_path / "a") as part:
        (part / "c.txt").write_text("half")
        raise ZeroDivisionError
    assert content(tmp_path / "a") == {"b.txt": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_of_two_writers_of_a_folder_the_later_wins(tmp_path):
    with pytest.raises(TakenOverError, match=r"another job took over"), folder(tmp_path / "a") as first:
        with folder(tmp_path / "a") as second:
            (second / "b.txt").write_text("later")
        (first / "b.txt").write_text("earlier")
    assert content(tmp_path / "a") == {"b.txt": "later"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_artefact(tmp_path, number):
    with (
        pytest.raises(RunError, match=rf"{tmp_path / 'a.csv'}: cannot be written \(.*\); make space"),
        written(tmp_path / "a.csv") as part,
    ):
        part.write_text("half")
        raise OSError(number, os.strerror(number))
    assert content(tmp_path) == {}


def test_a_device_that_is_full_is_told_too(tmp_path):
    with pytest.raises(RunError, match="No space left on device"), written(tmp_path / "a.csv"):
        Path("/dev/full").write_text("x")


def test_other_errors_of_the_system_stay_as_they_are(tmp_path):
    with pytest.raises(PermissionError), written(tmp_path / "a.csv"):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.parametrize("ends_first", ["earlier", "later"])
@pytest.mark.parametrize("writes", ["before", "after"])
def test_of_two_writers_the_one_that_began_last_wins(tmp_path, ends_first, writes):
    """The earlier is an orphan: a job whose Snakemake was killed and which the same command began anew."""
    path = tmp_path / "a.csv"
    earlier, later = written(path), written(path)
    orphan = earlier.__enter__()
    if writes == "before":
        orphan.write_text("earlier")
    part = later.__enter__()
    part.write_text("la")
    if writes == "after":
        orphan.write_text("earlier, made anew")
    if ends_first == "later":
        with part.open("a") as file:
            file.write("ter")
        later.__exit__(None, None, None)
    with pytest.raises(TakenOverError, match=rf"{path}: another job took over"):
        earlier.__exit__(None, None, None)
    if ends_first == "earlier":
        assert not path.exists()
        with part.open("a") as file:
            file.write("ter")
        later.__exit__(None, None, None)
    assert content(tmp_path) == {"a.csv": "later"}


def test_what_a_killed_writer_left_is_removed_and_no_other_s(tmp_path):
    for name in ("a.csv", "b-a.csv"):
        script = (
            "import os\nfrom detour.artefacts import written\n"
            f"with written({str(tmp_path / name)!r}) as part:\n    part.write_text('left')\n    os._exit(9)"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert len(content(tmp_path)) == 2
    with written(tmp_path / "a.csv") as part:
        assert part.suffix == ".csv"
        assert part.name.startswith(".part-")
        assert len(content(tmp_path)) == 2
        part.write_text("whole")
    left = content(tmp_path)
    assert left.pop("a.csv") == "whole"
    assert [name.endswith("b-a.csv") for name in left] == [True]
