import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detour import distances, store
from detour.compute import Dask


def brute_force(x: np.ndarray, medoids: np.ndarray) -> np.ndarray:
    return np.sqrt(((x[:, None].astype(np.float64) - medoids[None].astype(np.float64)) ** 2).sum(2))


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 30), C=st.integers(1, 5), N=st.integers(1, 40),
    offset=st.sampled_from([0, 1e4]), seed=st.integers(0, 99),
)  # fmt: skip
def test_equal_brute_force(n, C, N, offset, seed):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, N)) + offset).astype(np.float32)
    medoids = (rng.normal(size=(C, N)) + offset).astype(np.float32)
    found = distances.distances(x, medoids)
    np.testing.assert_allclose(found, brute_force(x, medoids), rtol=1e-12, atol=1e-12)


def test_cosine_is_one_less_the_cosine_of_the_angle(rng):
    x, other = (rng.normal(size=(m, 5)).astype(np.float32) for m in (7, 3))
    expected = [[1 - a @ b / np.sqrt(a @ a * (b @ b)) for b in other.astype(float)] for a in x.astype(float)]
    np.testing.assert_allclose(distances.distances(x, other, "cosine"), expected, rtol=1e-12, atol=1e-12)


def test_a_zero_vector_has_no_angle_and_is_at_distance_one(rng):
    x = np.array([[0, 0], [3, 4]], np.float32)
    found = distances.distances(x, np.array([[0, 0], [6, 8]], np.float32), "cosine")
    np.testing.assert_allclose(found, [[1, 1], [1, 0]], atol=1e-12)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chunk", [36, store.CHUNK_BYTES])
def test_store_is_images_by_layers_by_classes(rng, write_store, made, tmp_path, monkeypatch, threads, chunk):
    monkeypatch.setattr(store, "CHUNK_BYTES", chunk)
    layers = {"b": rng.normal(size=(7, 4)), "a": rng.normal(size=(7, 9))}
    layers = {name: x.astype(np.float32) for name, x in layers.items()}
    medoids = {name: x[:3] for name, x in layers.items()}
    labels = {"label": np.arange(7), "predicted": np.arange(7)[::-1].copy()}
    activations = write_store("set", layers | labels, layers=["b", "a"])
    paths = [write_store(f"medoid-{name}", {"medoid": m}, layer=name) for name, m in medoids.items()]
    distances.measure(activations, paths, tmp_path / "d.zarr.zip", dask=Dask(threads), made=made)
    found = store.read(tmp_path / "d.zarr.zip")
    expected = np.stack([brute_force(layers[name], medoids[name]) for name in ("b", "a")], axis=1)
    assert found["distances"].dtype == np.float32
    np.testing.assert_array_equal(found["distances"][:], expected.astype(np.float32))
    np.testing.assert_array_equal(found["predicted"][:], labels["predicted"])


def test_any_representative_by_any_metric(rng, write_store, made, tmp_path):
    x = rng.normal(size=(7, 4)).astype(np.float32)
    activations = write_store("set", {"a": x, "label": np.arange(7), "predicted": np.arange(7)}, layers=["a"])
    kinds = {"medoid": ("medoid", x[:3]), "centroid": ("mean", rng.normal(size=(3, 4)))}
    for representative, (array, rows) in kinds.items():
        path = write_store(representative, {array: rows}, layer="a")
        for metric in ("l2", "cosine"):
            out = tmp_path / f"{representative}-{metric}.zarr.zip"
            distances.measure(
                activations, [path], out, representative=representative, metric=metric, made=made
            )
            expected = distances.distances(x, rows, metric)[:, None]
            np.testing.assert_array_equal(store.read(out)["distances"][:], expected.astype(np.float32))


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_distance_that_is_not_finite_is_refused_by_name(write_store, made, tmp_path, value, metric):
    """NaN activations, and finite ones whose distance is more than float32 holds."""
    x = np.ones((5, 4), np.float32)
    x[3] = value
    seen = write_store(
        "step", {"layer": x, "label": np.zeros(5, int), "predicted": np.zeros(5, int)}, layers=["layer"]
    )
    medoid = write_store("medoid", {"medoid": -np.ones((2, 4), np.float32)}, layer="layer")
    if metric == "cosine" and value == 3e38:
        distances.measure(seen, [medoid], tmp_path / "d.zarr.zip", metric=metric, made=made)
        return
    with pytest.raises(
        ValueError, match=r"step.zarr.zip: the distance of source 3 to class 0 at layer layer is (nan|inf)"
    ):
        distances.measure(seen, [medoid], tmp_path / "d.zarr.zip", metric=metric, made=made)
    assert not (tmp_path / "d.zarr.zip").exists()
