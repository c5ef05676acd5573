import numpy as np
import pytest
from scipy.linalg import pinvh
from sklearn.covariance import EmpiricalCovariance

from detour import gaussians, store
from detour.compute import Dask


@pytest.fixture
def shards(rng, write_store):
    """Three classes in two shards, with their activations and labels."""
    label = np.repeat([0, 1, 2], [20, 40, 30])
    x = (rng.normal(size=(90, 6)) @ rng.normal(size=(6, 6)) + 5 * label[:, None]).astype(np.float32)
    paths = [
        write_store(
            f"{i}", {"layer": x[rows], "label": label[rows], "logits": np.zeros((rows.stop - rows.start, 3))}
        )
        for i, rows in enumerate([slice(0, 60), slice(60, 90)])
    ]
    return paths, x, label


@pytest.mark.parametrize("entries", [1, gaussians.ENTRIES])
@pytest.mark.parametrize("dask", [Dask(1), Dask(3)], ids=str)
def test_equal_scikit_learn_s_on_what_is_centred_by_class(shards, made, tmp_path, monkeypatch, entries, dask):
    """As in the code of Lee et al.: EmpiricalCovariance of all images less the mean of their class."""
    monkeypatch.setattr(gaussians, "ENTRIES", entries)
    paths, x, label = shards
    gaussians.fit(paths, tmp_path / "g.zarr.zip", layers=["layer"], dask=dask, made=made)
    found = store.read(tmp_path / "g.zarr.zip")
    x = x.astype(np.float64)
    mean = np.stack([x[label == c].mean(0) for c in range(3)])
    expected = EmpiricalCovariance().fit(x - mean[label])
    np.testing.assert_array_equal(found["size"], [20, 40, 30])
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(found["covariance"], expected.covariance_, rtol=1e-9, atol=1e-12)
    whitening = found["whitening"][:]
    np.testing.assert_allclose(whitening @ whitening.T, expected.get_precision(), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("rank", [0, 1, 3, 6])
def test_a_singular_covariance_has_its_pseudo_inverse(rng, rank):
    half = rng.normal(size=(6, rank))
    covariance = half @ half.T
    whitening = gaussians.whitening(covariance)
    assert np.count_nonzero(whitening.any(0)) == rank
    np.testing.assert_allclose(whitening @ whitening.T, pinvh(covariance), rtol=1e-7, atol=1e-9)


def test_threads_change_no_byte(shards, made, tmp_path, monkeypatch):
    monkeypatch.setattr(gaussians, "ENTRIES", 1)
    for threads in (1, 3):
        out = tmp_path / f"by-{threads}.zarr.zip"
        gaussians.fit(shards[0], out, layers=["layer"], dask=Dask(threads), made=made)
    assert store.digest(tmp_path / "by-1.zarr.zip") == store.digest(tmp_path / "by-3.zarr.zip")


@pytest.mark.parametrize(
    ("value", "label", "message"),
    [(1, [0, 2], r"\[1\] have no reference images"), (np.nan, [0, 1], "not finite")],
)
def test_what_has_no_gaussian_is_an_error(write_store, made, tmp_path, value, label, message):
    arrays = {
        "layer": np.full((2, 1), value),
        "label": np.array(label),
        "logits": np.ones((2, max(label) + 1)),
    }
    with pytest.raises(ValueError, match=message):
        gaussians.fit([write_store("0", arrays)], tmp_path / "g.zarr.zip", layers=["layer"], made=made)


def test_layers_side_by_side_are_one(write_store, made, tmp_path, rng):
    label = np.repeat([0, 1], 20)
    x = rng.normal(size=(40, 5)).astype(np.float32)
    apart = {"a": x[:, :2], "b": x[:, 2:], "label": label, "logits": np.zeros((40, 2))}
    together = {"x": x, "label": label, "logits": np.zeros((40, 2))}
    paths = [tmp_path / "apart.zarr.zip", tmp_path / "together.zarr.zip"]
    gaussians.fit([write_store("0", apart)], paths[0], layers=["a", "b"], made=made)
    gaussians.fit([write_store("1", together)], paths[1], layers=["x"], made=made)
    found, expected = (store.read(path) for path in paths)
    assert found.attrs["widths"] == [2, 3]
    for name in ("mean", "covariance"):
        np.testing.assert_array_equal(found[name][:], expected[name][:])


def test_what_varies_by_rounding_alone_does_not_vary(rng, write_store, made, tmp_path):
    """The mean of equal numbers is not that number: over such a deviation, any change is boundless."""
    n = 5000
    x = np.column_stack(
        [np.full(n, 0.1), rng.normal(size=n), np.full(n, 1e20), 1 + 1e-6 * rng.normal(size=n)]
    )
    arrays = {"layer": x.astype(np.float32), "label": np.zeros(n, int), "logits": np.zeros((n, 1))}
    gaussians.fit([write_store("0", arrays)], tmp_path / "g.zarr.zip", layers=["layer"], made=made)
    covariance = store.read(tmp_path / "g.zarr.zip")["covariance"][:]
    still = [0, 2]
    assert not covariance[still].any()
    assert not covariance[:, still].any()
    expected = np.cov(arrays["layer"][:, [1, 3]], rowvar=False, ddof=0, dtype=np.float64)
    np.testing.assert_allclose(covariance[np.ix_([1, 3], [1, 3])], expected, rtol=1e-6)


@pytest.mark.parametrize("entries", [1, gaussians.ENTRIES])
def test_the_joint_one_has_the_decomposition_of_its_correlations(
    shards, made, tmp_path, monkeypatch, entries
):
    monkeypatch.setattr(gaussians, "ENTRIES", entries)
    monkeypatch.setattr(store, "CHUNK_BYTES", 100)
    plain, joint = tmp_path / "plain.zarr.zip", tmp_path / "joint.zarr.zip"
    gaussians.fit(shards[0], plain, layers=["layer"], made=made)
    gaussians.fit(shards[0], joint, layers=["layer"], joint=True, made=made)
    covariance = store.read(plain)["covariance"][:]
    found = {name: array[:] for name, array in store.read(joint).arrays()}
    np.testing.assert_array_equal(found["covariance"], covariance)
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(found["unit"], 1 / deviation)
    vectors = found["vectors"].T
    correlations = vectors @ np.diag(found["values"]) @ vectors.T
    np.testing.assert_allclose(correlations, covariance / np.outer(deviation, deviation), atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(6), atol=1e-12)


def test_few_wide_results_are_in_memory_at_once(shards, made, tmp_path, monkeypatch):
    """Each is the square of the width: eight of 10,240 would be 6.7 GB."""
    asked = []

    class Watched(Dask):
        def results(self, tasks, what, at_once=None):
            asked.append(at_once)
            return super().results(tasks, what, at_once)

    for entries, expected in ((6 * 6, 1), (6 * 6 * 3, 3), (2**25, gaussians.RESULTS)):
        monkeypatch.setattr(gaussians, "ENTRIES", entries)
        gaussians.fit(shards[0], tmp_path / "g.zarr.zip", layers=["layer"], dask=Watched(), made=made)
        assert asked.pop() == expected
