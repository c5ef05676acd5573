import pytest

from detour.artefacts import written


def test_what_is_not_complete_is_not_there(tmp_path):
    with written(tmp_path / "a.csv") as part:
        part.write_text("half")
        assert not (tmp_path / "a.csv").exists()
    assert (tmp_path / "a.csv").read_text() == "half"


def test_a_failure_leaves_the_old_artefact(tmp_path):
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(ZeroDivisionError), written(tmp_path / "a.csv") as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.csv": "old"}
