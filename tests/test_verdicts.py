import numpy as np
import pandas as pd
import pytest

from detour import tables, verdicts

LABEL, TARGET = np.array([0, 1, 2, 0, 1]), np.array([1, 2, 0, 1, 0])
PREDICTED = {"original": [0, 1, 2, 1, 0], "hit": [1, 2, 1, 0, 0], "noise": [0, 1, 2, 1, 0]}


@pytest.fixture
def stores(rng, write_store):
    """Five images, the last two wrong from the start; an attack with a target and one that does nothing."""
    before = rng.integers(10, 245, (5, 3, 5, 5), dtype=np.uint8)
    after = before.copy()
    after[1, 0, 0, 0] += 3
    after[2, :, :, :] -= 2
    source = np.arange(5)

    def image(name, pixels, **more):
        return write_store(name, {"images": pixels, "label": LABEL, "source": source} | more)

    images = {
        "original": image("original", before, target=TARGET),
        "hit": image("hit", after, target=TARGET, predicted=np.array([1, 2, 1, 1, 0])),
        "noise": image("noise", before, target=np.full(5, -1), predicted=np.array([0, 1, 2, 1, 1])),
    }
    activations = {
        name: write_store(f"a-{name}", {"predicted": np.array(p)}) for name, p in PREDICTED.items()
    }
    return images, activations, (after.astype(float) - before).reshape(5, -1)


def test_a_verdict_for_every_version_of_every_image(stores):
    images, activations, moved = stores
    table = verdicts.judged(images, activations).set_index(["set", "source"])
    assert len(table) == 15
    hit = table.loc["hit"]
    np.testing.assert_array_equal(hit["before"], PREDICTED["original"])
    np.testing.assert_array_equal(hit["after"], PREDICTED["hit"])
    assert list(hit["right"]) == [True, True, True, False, False]
    assert list(hit["successful"]) == [True, True, True, False, False]
    # The last was taken for its target before the attack.
    assert list(hit["hit"]) == [True, True, False, False, False]
    assert list(hit["failed"]) == [False] * 5
    np.testing.assert_array_equal(hit["linf"], [0, 3, 2, 0, 0])
    np.testing.assert_allclose(hit["l2"], np.linalg.norm(moved, axis=1))
    assert list(hit["differs"]) == [False, False, False, True, False]
    assert list(table.loc["noise", "failed"]) == [True, True, True, False, False]
    assert not table.loc["noise", "hit"].any()
    assert (table.loc[["original", "noise"], "target"] == -1).all()


def test_outcomes_are_counted_from_the_verdicts(stores, tmp_path, made):
    images, activations, moved = stores
    paths = {name: tmp_path / f"{name}.zarr.zip" for name in ("verdicts", "outcomes")}
    verdicts.judge(images, activations, **paths, made=made)
    pd.testing.assert_frame_equal(tables.read(paths["verdicts"]), verdicts.judged(images, activations))
    table = tables.read(paths["outcomes"]).set_index("set")
    assert list(table["images"]) == [5, 5, 5]
    assert list(table["accuracy"]) == [0.6, 0.2, 0.6]
    assert table.loc["hit", "target_hits"] == 0.6
    assert table.loc[["original", "noise"], "target_hits"].isna().all()
    assert list(table["successful"][1:]) == [1, 0]
    assert np.isnan(table.loc["original", "successful"])
    assert table.loc["hit", "linf"] == 3
    assert table.loc["hit", "l2"] == pytest.approx(np.linalg.norm(moved, axis=1).mean())
    assert np.isnan(table.loc["original", "differs"])
    assert list(table["differs"][1:]) == [0.2, 0.2]
