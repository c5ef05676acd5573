"""Manifests: a change of content is seen, a change of time is not, and nothing is read twice."""

import json
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detour import folders, manifest
from detour.artefacts import written
from detour.manifest import Manifest
from detour.options.datasets import DATASETS


@pytest.fixture
def kept(tmp_path) -> Manifest:
    return Manifest(tmp_path / "kept", print)


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.png", "b.png", "deep/c.png"):
        (folder / name).write_bytes(name.encode() * 10)
        os.utime(folder / name, (1e9, 1e9))
    return folder


NAMES = ["a.png", "b.png", "deep/c.png"]


def reads(monkeypatch) -> list[str]:
    """Every path that is read from now on."""
    seen = []
    read = Manifest._read
    monkeypatch.setattr(Manifest, "_read", lambda self, path: seen.append(path) or read(self, path))
    return seen


def test_content_counts_and_time_does_not(kept, folder):
    before = kept.digest(folder, NAMES)
    os.utime(folder / "a.png", (0, 0))
    assert kept.digest(folder, NAMES) == before
    status = (folder / "a.png").stat()
    (folder / "a.png").write_bytes(b"x" * status.st_size)
    assert kept.digest(folder, NAMES) != before
    (folder / "a.png").write_bytes(b"a.png" * 10)
    assert kept.digest(folder, NAMES) == before


def test_names_and_number_count_and_order_does_not(kept, folder):
    before = kept.digest(folder, NAMES)
    assert kept.digest(folder, NAMES[::-1]) == before
    assert kept.digest(folder, NAMES[:2]) != before
    (folder / "a.png").rename(folder / "d.png")
    assert kept.digest(folder, ["d.png", *NAMES[1:]]) != before


def test_only_what_changed_is_read(kept, folder, monkeypatch):
    monkeypatch.setattr(manifest, "SETTLED", 0)
    seen = reads(monkeypatch)
    kept.digest(folder, NAMES)
    assert len(seen) == 3
    kept.digest(folder, NAMES)
    kept.digest(folder, NAMES[1:])
    kept.digest(folder, NAMES)
    assert len(seen) == 3
    (folder / "deep/c.png").read_bytes()
    kept.digest(folder, NAMES)
    assert seen[3:] == []
    os.utime(folder / "deep/c.png", (1e9, 1.1e9))
    kept.digest(folder, NAMES)
    assert seen[3:] == [f"{folder}/deep/c.png"]


def test_another_file_of_the_same_size_and_time_is_noticed(kept, folder, monkeypatch):
    """As `cp -p` and archives leave it: the time of the change of the inode tells, or the inode."""
    monkeypatch.setattr(manifest, "SETTLED", 0)
    before = kept.digest(folder, NAMES)
    status = (folder / "a.png").stat()
    (folder / "a.png").write_bytes(b"x" * status.st_size)
    os.utime(folder / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    over = kept.digest(folder, NAMES)
    assert over != before
    (folder / "other").write_bytes(b"y" * status.st_size)
    os.utime(folder / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
    (folder / "other").replace(folder / "a.png")
    assert kept.digest(folder, NAMES) not in (before, over)


def test_what_changed_just_now_is_read_again(kept, folder, monkeypatch):
    """It may change again within a tick of the file system's clock; the tests' files are of just now."""
    seen = reads(monkeypatch)
    kept.digest(folder, NAMES)
    kept.digest(folder, NAMES)
    assert len(seen) == 6
    monkeypatch.setattr(manifest, "SETTLED", 0)
    kept.digest(folder, NAMES)
    kept.digest(folder, NAMES)
    assert len(seen) == 9


def test_what_is_known_is_kept_between_runs_and_without_it_the_digest_is_the_same(
    tmp_path, folder, monkeypatch
):
    monkeypatch.setattr(manifest, "SETTLED", 0)
    before = Manifest(tmp_path / "kept", print).digest(folder, NAMES)
    assert Manifest(tmp_path / "other", print).digest(folder, NAMES) == before
    seen = reads(monkeypatch)
    assert Manifest(tmp_path / "kept", print).digest(folder, NAMES) == before
    assert not seen


def test_two_starts_at_once_do_each_other_no_harm(tmp_path, folder, monkeypatch):
    first, second = (Manifest(tmp_path / "kept", print) for _ in range(2))
    taken_over = []

    @contextmanager
    def slow(path):
        with written(path) as part:
            if not taken_over:
                taken_over.append(path)
                second.digest(folder, NAMES)
            yield part

    monkeypatch.setattr(manifest, "written", slow)
    assert first.digest(folder, NAMES) == second.digest(folder, NAMES)
    assert taken_over
    assert json.loads(taken_over[0].read_text()).keys() == set(NAMES)


def test_long_reading_says_how_far_it_is(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(manifest, "SECONDS_BETWEEN", 0)
    said = []
    Manifest(tmp_path / "kept", said.append).digest(folder, NAMES)
    assert said[-1].startswith("read 3 new or changed files, 0.0 GB")


def section(tmp_path, kind="image_folder", **other):
    for part in ("reference", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(5):
                (tmp_path / part / name / f"{i}.png").write_bytes(f"{part} {name} {i}".encode())
    folders = {"reference": str(tmp_path / "reference"), "test": str(tmp_path / "test")}
    return DATASETS[kind].model_validate({"name": kind, "crop": 8, **folders, **other})


def of_test(dataset, kept):
    return [group.digest for group in manifest.groups(dataset.test_files(), kept)]


def test_a_class_changes_alone_and_a_new_one_changes_the_numbers_of_the_test_images(kept, tmp_path):
    dataset = section(tmp_path)
    cat, dog = manifest.groups(dataset.reference_files(0), kept)
    images = of_test(dataset, kept)
    (tmp_path / "reference/dog/new.png").write_bytes(b"new")
    same, other = manifest.groups(dataset.reference_files(0), kept)
    assert same == cat
    assert other.digest != dog.digest
    assert of_test(dataset, kept) == images
    (tmp_path / "reference/ape").mkdir()
    assert of_test(dataset, kept) != images


def test_of_a_drawn_part_only_the_part_counts(kept, tmp_path, monkeypatch):
    dataset = section(tmp_path, per_class=2)
    seen = reads(monkeypatch)
    before = list(manifest.groups(dataset.reference_files(0), kept))
    assert len(seen) == 4
    taken = folders.taken(tmp_path / "reference/cat", 2, 0)
    other = next(f"{i}.png" for i in range(5) if f"{i}.png" not in taken)
    (tmp_path / "reference/cat" / other).write_bytes(b"other")
    assert list(manifest.groups(dataset.reference_files(0), kept)) == before
    (tmp_path / "reference/cat" / taken[0]).write_bytes(b"other")
    assert list(manifest.groups(dataset.reference_files(0), kept)) != before


def test_the_list_of_nips_2017_counts(kept, tmp_path):
    nips = {"labels": str(tmp_path / "list.csv"), "test": str(tmp_path / "nips")}
    dataset = section(tmp_path, "nips2017", **nips)
    (tmp_path / "nips").mkdir()
    (tmp_path / "nips/one.png").write_bytes(b"one")
    listing = "ImageId,TrueLabel,TargetClass\none,1,2\n"
    (tmp_path / "list.csv").write_text(listing)
    before = of_test(dataset, kept)
    (tmp_path / "list.csv").write_text(listing + "two,1,2\n")
    assert of_test(dataset, kept) == before
    (tmp_path / "list.csv").write_text(listing.replace("1,2", "2,1"))
    assert of_test(dataset, kept) != before


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=3)), max_size=8))
def test_the_digest_is_a_function_of_the_contents(tmp_path_factory, changes):
    folder, kept = tmp_path_factory.mktemp("images"), Manifest(tmp_path_factory.mktemp("kept"), print)
    contents = {f"{i}.png": b"" for i in range(3)}
    seen = {}
    for i, content in [(0, b""), *changes]:
        contents[f"{i}.png"] = content
        for name, held in contents.items():
            if not (folder / name).exists() or (folder / name).read_bytes() != held:
                (folder / name).write_bytes(held)
        digest = kept.digest(folder, list(contents))
        assert seen.setdefault(tuple(contents.values()), digest) == digest
    assert len(set(seen.values())) == len(seen)


@pytest.mark.parametrize(("classes", "count"), [(10, 1), (10, 3), (10, 10), (1000, 7)])
def test_shards_are_numpy_s_split(classes, count):
    split = np.array_split(np.arange(classes), count)
    assert [list(shard) for shard in folders.shards(classes, count)] == [part.tolist() for part in split]
