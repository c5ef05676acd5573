"""What is read is what was written: every kind of artefact, damaged, cut, put in the place of another."""

import itertools
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from conftest import SMALL
from detour import identity, states, store, tables

# An artefact of each kind in the small run, with what is put in its place: a sibling of the same form.
KINDS = {
    "images": ("images/step.zarr.zip", "images/noise.zarr.zip"),
    "activations": ("activations/step.zarr.zip", "activations/noise.zarr.zip"),
    "reference": ("activations/reference/0.zarr.zip", "activations/step.zarr.zip"),
    "medoids": ("medoids/stem.zarr.zip", "medoids/blocks.4.zarr.zip"),
    "gaussians": ("gaussians/stem.zarr.zip", "gaussians/joint.zarr.zip"),
    "distances": ("distances/medoid-l2/step.zarr.zip", "distances/centroid-cosine/step.zarr.zip"),
    "neighbours": ("neighbours/step.zarr.zip", "neighbours/original.zarr.zip"),
    "adaptive": ("adaptive/lstm/orthogonal/fold-0.zarr.zip", "adaptive/fisher/orthogonal/fold-0.zarr.zip"),
    "folds": ("folds.zarr.zip", "verdicts.zarr.zip"),
    "history": (
        "detectors/lstm/seed-0/fold-0/history.zarr.zip",
        "detectors/lstm/seed-0/fold-1/history.zarr.zip",
    ),
    "fold's scores": (
        "detectors/lstm/seed-0/fold-0/scores.zarr.zip",
        "detectors/lstm/seed-1/fold-0/scores.zarr.zip",
    ),
    "verdicts": ("verdicts.zarr.zip", "outcomes.zarr.zip"),
    "scores": ("scores.zarr.zip", "histories.zarr.zip"),
    "summary": ("summary.zarr.zip", "metrics.zarr.zip"),
    "classifier": ("classifier.pt", "detectors/lstm/seed-0/fold-0/model.pt"),
    "model": ("detectors/lstm/seed-0/fold-0/model.pt", "detectors/lstm/seed-0/fold-1/model.pt"),
}
TABLES = {"folds", "history", "fold's scores", "verdicts", "scores", "summary"}
STATES = {"classifier", "model"}


def content(kind: str, path: Path) -> list[bytes]:
    """All that a job gets when it reads an artefact."""
    if kind in STATES:
        return [repr(states.load(path)).encode()]
    if kind in TABLES:
        return [tables.read(path).to_csv().encode()]
    group = store.read(path)
    arrays = [value for _, value in sorted(group.members(max_depth=None)) if isinstance(value, zarr.Array)]
    return [repr(dict(group.attrs)).encode(), *(array[:].tobytes() for array in arrays)]


@pytest.fixture
def placed(finished, tmp_path):
    """A copy of an artefact under the same name: `placed(of, as_)`."""

    def place(of: str, as_: str | None = None) -> Path:
        path = tmp_path / "results" / finished.results.name / (as_ or of)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(finished.results / of, path)
        return path

    return place


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_refused_or_changes_nothing(placed, kind, rng):
    path = placed(KINDS[kind][0])
    whole, before = path.read_bytes(), content(kind, path)
    # Anywhere, and in the directory at the end, which says what is where.
    places = [*rng.integers(len(whole), size=20), *(len(whole) - rng.integers(1, 600, size=20))]
    refused = []
    for place in map(int, places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            after = content(kind, path)
        except ValueError as error:
            refused.append(str(error))
        else:
            # A time, or what no reader of zip looks at.
            assert after == before, place
    assert len(refused) > len(places) // 2
    assert all(message.startswith(f"{path}: ") and "run again" in message for message in refused)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0, 0.5, 0.999])
def test_a_file_that_was_cut_is_refused(placed, kind, kept):
    path = placed(KINDS[kind][0])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*run again"):
        content(kind, path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sibling_in_its_place_is_refused(placed, kind):
    mine, other = KINDS[kind]
    path = placed(other, mine)
    with pytest.raises(ValueError, match=f"says that it is {other}, expected {mine}"):
        content(kind, path)


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_another_run_is_read_if_it_was_asked_for_the_same_and_only_then(placed, kind):
    path = placed(KINDS[kind][0])
    there = path.parents[len(Path(KINDS[kind][0]).parts)] / "other" / KINDS[kind][0]
    there.parent.mkdir(parents=True)
    shutil.copy(path, there)
    assert content(kind, there) == content(kind, path)
    asked = identity.asked(store.attributes(path)["settings"])
    store.as_asked([there], {KINDS[kind][0]: asked})
    with pytest.raises(ValueError, match="was made with other settings than this run's"):
        store.as_asked([there], {KINDS[kind][0]: "other"})


@pytest.mark.parametrize("what", ["text", "a zip", "a folder"])
def test_what_is_no_artefact_is_refused(tmp_path, what):
    path = tmp_path / "a.zarr.zip"
    if what == "a folder":
        path.mkdir()
    elif what == "text":
        path.write_text("hello")
    else:
        shutil.make_archive(str(tmp_path / "a.zarr"), "zip", Path(__file__).parent, "test_damage.py")
    with pytest.raises((ValueError, OSError), match=r"a\.zarr\.zip"):
        store.read(path)


def test_what_was_made_from_another_version_is_refused_whoever_reads_both(write_store, made, tmp_path):
    """Activations of images that were replaced since, and two that were made from different images."""
    images = write_store("images", {"x": np.zeros(3)})
    first, second, third = (tmp_path / f"{name}.zarr.zip" for name in ("first", "second", "third"))
    with store.create(first, made, [images]):
        pass
    with store.create(second, made, [first]):
        pass
    store.lineage([images, first, second])
    write_store("images", {"x": np.ones(3)})
    for paths in itertools.permutations([images, second]):
        with pytest.raises(
            ValueError, match=r"second\.zarr\.zip: was made from another \S*images\.zarr\.zip"
        ):
            store.lineage(paths)
    with store.create(third, made, [images]):
        pass
    for one, other in ([first, third], [third, second]):
        with pytest.raises(ValueError, match=rf"{other.name}: was made from another \S*images\.zarr\.zip"):
            store.lineage([one, other])


def test_a_chunk_that_is_not_there_is_not_read_as_zeros(write_store):
    """Zarr takes a missing chunk for one of fill values; the seal does not."""
    path = write_store("a", {"x": np.ones(3)})
    with zipfile.ZipFile(path) as whole:
        kept, seal = [(i, whole.read(i)) for i in whole.infolist() if "/c/" not in i.filename], whole.comment
    with zipfile.ZipFile(path, "w") as cut:
        for info, text in kept:
            cut.writestr(info, text)
        cut.comment = seal
    with pytest.raises(ValueError, match="its directory is not the one that was sealed"):
        store.read(path)


@pytest.mark.parametrize("name", ["NA", "null", "nan", "16", "08", "1e3", "True", "", "漢字", 'a,b\n"c"'])
def test_a_text_of_a_table_comes_back_as_it_was(write_table, name):
    table = pd.DataFrame({
        "set": [name, "other"], "n": [1, 2], "score": [0.1, np.nan], "right": [True, False],
    })  # fmt: skip
    pd.testing.assert_frame_equal(tables.read(write_table("a", table)), table)


def test_a_table_without_rows_comes_back(write_table):
    table = pd.DataFrame({"n": np.empty(0, np.int64), "score": np.empty(0)})
    pd.testing.assert_frame_equal(tables.read(write_table("a", table)), table)


def test_a_backup_of_another_configuration_s_run_is_refused(copied):
    """Its name, its sources and its seal are right: what it was asked to be is not."""
    step = copied.results / "images/step.zarr.zip"
    older = shutil.copy(step, copied.folder / "older.zarr.zip")
    copied.settings["attacks"][0]["eps"] = 24
    ran = copied.snakemake("results/small/activations/step.zarr.zip")
    assert ran.returncode == 0, ran.stdout
    shutil.copy(older, step)
    ran = copied.snakemake("results/small/activations/step.zarr.zip")
    assert ran.returncode != 0
    assert re.search(r"step.zarr.zip: was made with other settings than this run's, .*'eps': 32", ran.stdout)


def test_what_was_asked_for_is_what_every_kind_of_artefact_says(finished):
    from test_plan import planned

    contents = json.loads((finished.results / "contents.json").read_text())
    for path, job in planned(SMALL, contents).makers.items():
        file = finished.results / path.removeprefix("<run>/")
        if file.suffix in (".zip", ".pt"):
            assert identity.asked(store.attributes(file)["settings"]) == identity.asked(job.told), path
