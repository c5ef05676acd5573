import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from detour import medoids, store
from detour.compute import Dask
from detour.medoids import candidates, medoid

SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 6))
# Few values make ties and duplicates.
FEW = arrays(np.float32, SHAPES, elements=st.sampled_from([-1, 0, 1, 2]).map(np.float32))
ANY = arrays(np.float32, SHAPES, elements=st.floats(-(2.0**100), 2.0**100, width=32))
TINY = arrays(np.float32, SHAPES, elements=st.floats(-(2.0**-100), 2.0**-100, width=32))


def brute_force(x: np.ndarray) -> tuple[int, float]:
    costs = cdist(x.astype(np.float64), x.astype(np.float64)).sum(1)
    return int(costs.argmin()), float(costs.min())


@settings(max_examples=300, deadline=None)
@given(x=FEW | ANY | TINY, offset=st.sampled_from([0, 1, 1e3, 1e6, -1e8]))
def test_equals_brute_force_on_any_input(x, offset):
    x = x + np.float32(offset)
    found = medoid(x)
    assert (found.index, found.cost) == brute_force(x)


@pytest.mark.parametrize("N", [1, 64, 512])
@pytest.mark.parametrize("offset", [0, 100, 1e4])
def test_equals_brute_force_on_classes_of_usual_size(rng, N, offset):
    x = (rng.gamma(0.5, size=(700, N)) + offset).astype(np.float32)
    x[350:355] = x[:5]
    found = medoid(x)
    assert (found.index, found.cost) == brute_force(x)


def test_blocks_of_a_large_class_change_nothing(rng, monkeypatch):
    x = rng.gamma(0.5, size=(101, 7)).astype(np.float32).round(1)
    monkeypatch.setattr(medoids, "ENTRIES", 700)
    monkeypatch.setattr(medoids, "CACHED", 250)
    assert (medoid(x).index, medoid(x).cost) == brute_force(x)


def test_few_members_are_left_for_float64(rng):
    x = rng.gamma(0.5, size=(1300, 256)).astype(np.float32)
    assert len(candidates(x)) < 0.1 * len(x)


def test_values_beyond_float32_are_decided_in_float64():
    x = np.array([[3e38, 0], [-3e38, 0], [0, 1e-44], [1e38, 0]], np.float32)
    assert (medoid(x).index, medoid(x).cost) == brute_force(x)


def test_ties_go_to_the_lowest_index():
    square = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    assert medoid(square).index == 0
    assert medoid(np.ones((5, 3), np.float32)).index == 0
    assert medoid(np.array([[7], [1]], np.float32)).index == 0


def test_one_member_is_its_own_medoid():
    assert medoid(np.array([[3.0, 4.0]], np.float32)) == medoids.Medoid(0, 0.0)


@pytest.mark.parametrize(
    ("x", "message"), [(np.empty((0, 3)), "no members"), (np.array([[np.nan]]), "not finite")]
)
def test_what_has_no_medoid_is_an_error(x, message):
    with pytest.raises(ValueError, match=message):
        medoid(x.astype(np.float32))


@pytest.fixture(params=[12 * 20, store.CHUNK_BYTES])
def shards(rng, write_store, monkeypatch, request):
    """Three classes in two shards, in chunks of a few rows or one, and their activations and labels joined."""
    monkeypatch.setattr(store, "CHUNK_BYTES", request.param)
    x = rng.normal(size=(90, 5)).astype(np.float32)
    label = np.repeat([0, 1, 2], [20, 40, 30])
    paths = [
        write_store(str(i), {"layer": x[rows], "label": label[rows], "logits": np.zeros((len(x[rows]), 3))})
        for i, rows in enumerate([slice(0, 60), slice(60, 90)])
    ]
    return paths, x, label


@pytest.mark.parametrize("threads", [1, 3])
def test_store_has_every_class(shards, made, tmp_path, threads):
    paths, x, label = shards
    medoids.find(paths, tmp_path / "m.zarr.zip", layer="layer", dask=Dask(threads), made=made)
    found = store.read(tmp_path / "m.zarr.zip")
    np.testing.assert_array_equal(found["size"][:], [20, 40, 30])
    for c in range(3):
        members = np.flatnonzero(label == c)
        best, cost = brute_force(x[members])
        assert found["index"][c] == members[best]
        assert found["cost"][c] == cost
        np.testing.assert_array_equal(found["medoid"][c], x[members[best]])


def test_threads_change_no_byte(shards, made, tmp_path):
    for threads in (1, 3):
        medoids.find(
            shards[0], tmp_path / f"by-{threads}.zarr.zip", layer="layer", dask=Dask(threads), made=made
        )
    assert store.digest(tmp_path / "by-1.zarr.zip") == store.digest(tmp_path / "by-3.zarr.zip")


def test_what_is_kept_of_a_class_is_its_medoid_alone(rng):
    _, row = medoids._with_activation(rng.normal(size=(30, 5)).astype(np.float32))
    assert row.base is None


def test_classes_that_begin_in_one_chunk_are_read_together():
    label = np.repeat([3, 4, 5, 6, 7], [2, 3, 9, 1, 4])
    rows = [[slice(0, 2), slice(2, 5)], [slice(5, 14)], [slice(14, 15)], [slice(15, 19)]]
    assert medoids.classes_by_rows(label, 5) == rows


def test_a_class_without_images_is_named(write_store, made, tmp_path):
    path = write_store("0", {"layer": np.ones((2, 1)), "label": np.array([0, 2]), "logits": np.ones((2, 3))})
    with pytest.raises(ValueError, match=r"\[1\] have no reference images"):
        medoids.find([path], tmp_path / "m.zarr.zip", layer="layer", made=made)


def test_what_is_not_finite_is_named_by_its_store_and_layer(write_store, made, tmp_path):
    x = np.ones((4, 2), np.float32)
    x[3, 1] = np.inf
    arrays = {"here": x, "label": np.array([0, 0, 1, 1]), "logits": np.zeros((4, 2), np.float32)}
    path = write_store("0", arrays)
    with pytest.raises(
        ValueError, match=r"0\.zarr\.zip, layer here: activations have values that are not finite"
    ):
        medoids.find([path], tmp_path / "here.zarr.zip", layer="here", made=made)
    assert not (tmp_path / "here.zarr.zip").exists()
