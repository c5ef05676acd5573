"""When, where and by which command a run was made."""

import json
import subprocess

import pytest

from conftest import ROOT
from detour import provenance


def test_a_start_is_written_down_and_recalled_with_what_its_jobs_took(tmp_path):
    provenance.record(tmp_path, ROOT, ["--cores", "2", "--config", "run=a b"])
    (tmp_path / "benchmarks/figures").mkdir(parents=True)
    for name, seconds in (("summary", 61.4), ("figures/roc", 3600.0), ("report", 1e6)):
        (tmp_path / f"benchmarks/{name}.tsv").write_text(f"s\th:m:s\n{seconds}\t\n")
    found = provenance.recalled(tmp_path)
    assert found["command"] == "snakemake --cores 2 --config 'run=a b'"
    assert found["Detour"] in (ROOT / "pyproject.toml").read_text()
    assert found["started"].endswith(" UTC")
    assert "cores" in found["machine"]
    assert found["run time"] == "1:01:01 (h:mm:ss) of 2 jobs, one after the other"
    # As often as it is asked.
    assert provenance.recalled(tmp_path) == found
    assert str(ROOT) not in json.dumps(found)


def test_what_was_not_recorded_is_said_to_be_so(tmp_path):
    assert "not recorded" in provenance.recalled(tmp_path)["started"]
    assert "not recorded" in provenance.recalled(tmp_path)["run time"]
    (tmp_path / provenance.NAME).write_text('{"started": ')
    assert "not recorded" in provenance.recalled(tmp_path)["started"]
    (tmp_path / provenance.NAME).write_text("[]")
    assert "not recorded" in provenance.recalled(tmp_path)["started"]
    assert "without its pyproject.toml" in provenance.release(tmp_path)


@pytest.mark.parametrize("cut", ["", "s\th:m:s\n", "s\th:m:s\n1.2.\t", "\th:m:s\n1\t", "h:m:s\n1\n"])
def test_jobs_whose_files_cannot_be_read_are_counted(tmp_path, cut):
    (tmp_path / "a.tsv").write_text("s\th:m:s\n2.4\t\n")
    (tmp_path / "b.tsv").write_text(cut)
    assert provenance.spent(tmp_path) == (
        "0:00:02 (h:mm:ss) of 1 jobs, one after the other, without 1 whose files cannot be read"
    )


def test_values_of_secret_options_are_not_written_down(tmp_path):
    arguments = [
        "--storage-s3-secret-key",
        "abc",
        "--storage-s3-access-key=def",
        "--cores",
        "2",
        "--slurm-jwt-token",
        "g",
    ]
    provenance.record(tmp_path, ROOT, [*arguments, "--keep-going", "all", "\udcff.yaml"])
    command = provenance.recalled(tmp_path)["command"]
    assert command.startswith(
        "snakemake --storage-s3-secret-key ... --storage-s3-access-key=... --cores 2 --slurm-jwt-token ... --keep-going all"
    )
    assert "\\udcff.yaml" in command


def test_the_commit_is_the_workflow_s_own_and_says_what_differs(tmp_path):
    def git(*arguments):
        named = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.check_output(["git", *named, *arguments], cwd=tmp_path, text=True)

    assert provenance.commit(tmp_path) == "none: the workflow is no checkout of git"
    git("init")
    assert provenance.commit(tmp_path).startswith("not known: fatal: ")
    (tmp_path / "below").mkdir()
    (tmp_path / "file").write_text("one")
    git("add", ".")
    git("commit", "--message", "one")
    head = git("rev-parse", "HEAD").strip()
    assert provenance.commit(tmp_path) == head
    assert provenance.commit(tmp_path / "below") == "none: the workflow is no checkout of git"
    (tmp_path / "file").write_text("two")
    assert provenance.commit(tmp_path) == f"{head}-dirty"
