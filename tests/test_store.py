import zipfile

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import ZipStore

from detour import store


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8), width=st.sampled_from([1, 7, 200_000]))
def test_rows_come_back_whatever_blocks_they_arrive_in(tmp_path_factory, sizes, width):
    made = store.Made({}, "")
    n = sum(sizes)
    wide = np.arange(n * width, dtype=np.float32).reshape(n, width)
    narrow = np.arange(n)
    cuts = np.cumsum(sizes)[:-1]
    blocks = [
        {"wide": w, "narrow": k} for w, k in zip(np.split(wide, cuts), np.split(narrow, cuts), strict=True)
    ]
    path = tmp_path_factory.mktemp("store") / "a.zarr.zip"
    with store.create(path, made) as group:
        store.write(group, blocks)
    found = store.read(path)
    np.testing.assert_array_equal(found["wide"][:], wide)
    np.testing.assert_array_equal(found["narrow"][:], narrow)
    names = zipfile.ZipFile(path).namelist()
    assert len(names) == len(set(names)), "a chunk was written twice"
    assert found["wide"].chunks[0] * width * 4 <= max(store.CHUNK_BYTES, width * 4)


def test_a_store_opens_with_zarr_alone_and_says_what_made_it(write_store, made):
    path = write_store("a", {"x": np.ones(3)}, classes=["cat"])
    attributes = dict(zarr.open_group(ZipStore(path, mode="r"), mode="r").attrs)
    assert attributes["settings"] == made.settings
    assert attributes["code"] == made.code
    assert attributes["classes"] == ["cat"]
    assert attributes["versions"]["zarr"] == zarr.__version__


def test_sources_are_known_by_their_digest(write_store, made, tmp_path):
    source = write_store("a", {"x": np.ones(3)})
    with store.create(tmp_path / "b.zarr.zip", made, [source]):
        pass
    assert store.read(tmp_path / "b.zarr.zip").attrs["sources"] == {
        f"{tmp_path.name}/a.zarr.zip": store.digest(source)
    }


def test_digest_follows_the_content_and_not_the_time(write_store, monkeypatch):
    before = store.digest(write_store("a", {"x": np.ones(3)}))
    monkeypatch.setattr("time.time", lambda: 10**9)
    assert store.digest(write_store("b", {"x": np.ones(3)})) == before
    assert store.digest(write_store("c", {"x": np.zeros(3) + 2})) != before


PLACES = [
    "{run}/classifier.pt", "{run}/folds.zarr.zip", "{run}/images/{name}.zarr.zip", "{run}/activations/reference/0.zarr.zip",
    "{run}/distances/medoid-l2/{name}.zarr.zip", "{run}/detectors/{name}/seed-0/fold-0/scores.zarr.zip",
    "{run}/adaptive/{name}/pgd/fold-0.zarr.zip",
]  # fmt: skip
NAMED = st.tuples(
    st.sampled_from(["results", "a", "images", "detectors"]),
    st.sampled_from(PLACES),
    st.sampled_from(["results", "b", "images"]),
)


@given(one=NAMED, other=NAMED, root=st.sampled_from(["/x", "/results/x", "/x/results/y"]))
def test_no_two_artefacts_of_a_run_have_one_identity_and_where_the_run_is_does_not_count(one, other, root):
    below = [(run, place.format(run=run, name=name)) for run, place, name in (one, other)]
    found = [store.identity(f"{root}/results/{path}") for _, path in below]
    assert found == [path.removeprefix(f"{run}/") for run, path in below]


def test_a_failed_job_leaves_nothing_and_an_old_artefact_as_it_was(write_store, made, tmp_path):
    path = write_store("a", {"x": np.ones(3)})
    old = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), store.create(path, made) as group:
        store.write(group, [{"x": np.zeros(1)}])
        raise KeyboardInterrupt
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr.zip"]


def test_attributes_can_tell_what_was_seen_while_writing(made, tmp_path):
    path = tmp_path / "a.zarr.zip"
    with store.create(path, made) as group:
        for _ in range(2):
            group.attrs["seen"] = group.attrs.get("seen", 0) + 1
        store.write(group, [])
    assert store.read(path).attrs["seen"] == 2
    assert store.read(path).attrs["code"] == made.code
    assert zipfile.ZipFile(path).namelist() == ["zarr.json"]


def test_a_flipped_byte_is_an_error_and_not_a_number(write_store, rng):
    path = write_store("a", {"x": rng.random(1000)})
    with zipfile.ZipFile(path) as zipped:
        chunk = max(zipped.infolist(), key=lambda entry: entry.file_size)
    content = bytearray(path.read_bytes())
    content[chunk.header_offset + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zarr\.zip: is damaged .*CRC.*run again"):
        store.read(path)["x"][:]


def test_half_a_store_is_refused_by_name(write_store):
    path = write_store("a", {"x": np.ones(1000)})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"a\.zarr\.zip.*delete it and run again"):
        store.read(path)
