import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detour import folds, tables


@settings(max_examples=40, deadline=None)
@given(
    per_class=st.integers(10, 25), classes=st.integers(2, 6), count=st.integers(2, 5),
    stratify=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip
def test_a_source_has_one_role_a_fold_and_is_tested_at_most_once(per_class, classes, count, stratify, seed):
    label = np.repeat(np.arange(classes), per_class)
    roles = folds.folds(label, count, stratify=stratify, seed=seed)
    assert roles.shape == (len(label), count)
    assert set(roles.ravel()) == set(folds.ROLES)
    for role in ("validation", "test"):
        assert (roles == role).sum(1).max() <= 1
        share = (roles == role).mean(0)
        assert np.abs(share - 1 / (2 * count)).max() <= 1 / len(label) + 1e-9
    if stratify:
        for c in range(classes):
            dealt = (roles[label == c] == "test").sum(0)
            assert dealt.max() - dealt.min() <= 1


def test_the_paper_s_shares_are_80_10_10():
    roles = folds.folds(np.repeat(np.arange(10), 100), 5, stratify=True, seed=0)
    for k in range(5):
        assert [int((roles[:, k] == role).sum()) for role in folds.ROLES] == [800, 100, 100]


def test_the_seed_decides():
    label = np.repeat([0, 1], 50)
    first, again, other = (folds.folds(label, 5, stratify=True, seed=s) for s in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_table_gives_back_disjoint_sources(write_store, made, tmp_path):
    images = write_store(
        "original", {"label": np.tile([0, 1], 20), "source": np.arange(40), "copy_of": np.arange(40)}
    )
    path = tmp_path / "folds.zarr.zip"
    folds.deal(images, path, count=2, stratify="class", seed=0, made=made)
    for table in (tables.read(path), pd.read_csv(tmp_path / "folds.csv", dtype=str)):
        assert list(table.columns) == ["source", "label", "fold-0", "fold-1"]
    for k in range(2):
        parts = [folds.sources(path, k, role) for role in folds.ROLES]
        assert sorted(np.concatenate(parts)) == list(range(40))


def test_a_source_in_the_table_twice_is_refused(write_table):
    path = write_table("folds", pd.DataFrame({"source": [0, 0], "fold-0": ["train", "test"]}))
    with pytest.raises(ValueError, match=r"folds\.zarr\.zip: source 0 stands twice"):
        folds.sources(path, 0, "test")
