from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from detour import neighbours, store
from detour.compute import Dask


def brute_force(x: np.ndarray, reference: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    d = cdist(x.astype(np.float64), reference.astype(np.float64))
    index = np.argsort(d, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(d, index, axis=1), index


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 20), R=st.integers(1, 40), N=st.integers(1, 30), k=st.integers(1, 40),
    offset=st.sampled_from([0, 1e4]), seed=st.integers(0, 99), part=st.sampled_from([1, 50, neighbours.PART]),
)  # fmt: skip
def test_equal_brute_force_also_far_from_the_origin(n, R, N, k, offset, seed, part):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, N)) + offset).astype(np.float32)
    reference = (rng.normal(size=(R, N)) + offset).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "PART", part)
        distance, index = neighbours.nearest(x, reference, min(k, R))
    expected = brute_force(x, reference, min(k, R))
    np.testing.assert_allclose(distance, expected[0], rtol=1e-12)
    if N > 1:
        np.testing.assert_array_equal(index, expected[1])


@settings(max_examples=60, deadline=None)
@given(R=st.integers(1, 40), k=st.integers(1, 40), seed=st.integers(0, 99))
def test_of_equally_distant_ones_those_with_the_lowest_index(R, k, seed):
    """Small whole numbers, whose distances are exact and often the same."""
    rng = np.random.default_rng(seed)
    x, reference = (rng.integers(0, 3, (m, 3)).astype(np.float32) for m in (9, R))
    distance, index = neighbours.nearest(x, reference, min(k, R))
    expected = brute_force(x, reference, min(k, R))
    np.testing.assert_array_equal(index, expected[1])
    np.testing.assert_array_equal(distance, expected[0])


def test_what_is_not_finite_is_an_error():
    with pytest.raises(ValueError, match="not finite"):
        neighbours.nearest(np.ones((2, 2), np.float32), np.full((3, 2), np.nan, np.float32), 1)


def test_a_distance_beyond_its_type_is_an_error(tmp_path, write_store, made):
    far = np.full((2, 3), 3e38, np.float32)
    seen = write_store("seen", {"a": far})
    reference = write_store("reference", {"a": -far, "label": np.zeros(2, int)})
    with pytest.raises(
        ValueError, match="seen.zarr.zip: a distance of source 0 at layer a is beyond float32"
    ):
        neighbours.find(seen, [reference], tmp_path / "near.zarr.zip", layers=["a"], k=1, made=made)
    assert not (tmp_path / "near.zarr.zip").exists()


@pytest.fixture
def stored(rng, write_store, monkeypatch) -> tuple[Path, list[Path], dict[str, np.ndarray], np.ndarray]:
    """A set, shards of the reference that repeat images, and what is in the shards."""
    monkeypatch.setattr(store, "CHUNK_BYTES", 200)
    widths = {"a": 4, "b": 9}
    x = {layer: rng.normal(size=(30, width)).astype(np.float32) for layer, width in widths.items()}
    reference = {layer: np.tile(rows[10:], (3, 1)) for layer, rows in x.items()}
    label = np.arange(60)
    shards = [
        write_store(
            f"r{i}", {layer: rows[part] for layer, rows in reference.items()} | {"label": label[part]}
        )
        for i, part in enumerate([slice(0, 35), slice(35, 60)])
    ]
    return write_store("original", x), shards, x | {f"reference {k}": v for k, v in reference.items()}, label


@pytest.mark.parametrize("entries", [1, neighbours.ENTRIES])
@pytest.mark.parametrize("dask", [Dask(1), Dask(3)], ids=str)
def test_store_has_the_nearest_of_all_shards(stored, made, tmp_path, monkeypatch, entries, dask):
    monkeypatch.setattr(neighbours, "ENTRIES", entries)
    activations, shards, x, label = stored
    neighbours.find(
        activations, shards, tmp_path / "n.zarr.zip", layers=["b", "a"], k=7, dask=dask, made=made
    )
    found = store.read(tmp_path / "n.zarr.zip")
    assert (found.attrs["layers"], found.attrs["k"]) == (["b", "a"], 7)
    for layer in ("a", "b"):
        distance, index = brute_force(x[layer], x[f"reference {layer}"], 7)
        assert found[layer]["distance"].dtype == np.float32
        np.testing.assert_allclose(found[layer]["distance"], distance, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(found[layer]["label"], label[index])


def test_more_neighbours_than_reference_images_is_an_error(stored, made, tmp_path):
    with pytest.raises(ValueError, match="k: found 61, allowed: at most the 60 reference images"):
        neighbours.find(*stored[:2], tmp_path / "n.zarr.zip", layers=["a"], k=61, made=made)
