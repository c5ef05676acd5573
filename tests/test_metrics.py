import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from detour import metrics, store


@pytest.fixture
def scores(rng) -> pd.DataFrame:
    """Two detectors, three folds whose scores are on different scales, two attacks."""
    rows = []
    for detector, signal in (("good", 2.0), ("blind", 0.0)):
        for fold in range(3):
            for name, shift in (("original", 0), ("strong", 1), ("weak", 0.3)):
                score = rng.normal(shift * signal, size=50) * 10**fold
                rows += [
                    (detector, "known", fold, name, i, int(name != "original"), s)
                    for i, s in enumerate(score)
                ]
    columns = ["detector", "protocol", "fold", "set", "source", "adversarial", "score"]
    return pd.DataFrame(rows, columns=columns)


def pairs_won(negatives: np.ndarray, positives: np.ndarray) -> float:
    """AUC by its definition: how often a positive scores above a negative."""
    return float((positives[:, None] > negatives[None]).mean())


def test_auc_is_the_mean_over_folds_of_pairs_won(scores):
    table = metrics.auc(scores).set_index(["detector", "attack"])
    assert list(table.loc["good"].index) == ["all", "strong", "weak"]
    for detector in ("good", "blind"):
        for attack, sets in (("strong", ["strong"]), ("all", ["strong", "weak"])):
            chosen = scores[scores["detector"] == detector]
            values = [
                pairs_won(
                    f["score"][f["set"] == "original"].to_numpy(), f["score"][f["set"].isin(sets)].to_numpy()
                )
                for _, f in chosen.groupby("fold")
            ]
            row = table.loc[(detector, attack)]
            assert row["auc"] == pytest.approx(np.mean(values))
            assert row["std"] == pytest.approx(np.std(values, ddof=1))
            assert row["folds"] == 3


def test_mean_roc_rises_from_corner_to_corner_and_holds_the_mean_auc(scores):
    good = scores[scores["detector"] == "good"]
    mean, std = metrics.mean_roc(good)
    assert (mean[0], mean[-1]) == (0, 1)
    assert (np.diff(mean) >= 0).all()
    assert (std >= 0).all()
    area = np.trapezoid(mean, metrics.FALSE_POSITIVE_RATES)
    expected = np.mean([roc_auc_score(f["adversarial"], f["score"]) for _, f in good.groupby("fold")])
    assert area == pytest.approx(expected, abs=0.01)


def test_outcomes_are_counted_on_the_stored_bytes(rng, write_store):
    before = rng.integers(10, 245, (4, 3, 5, 5), dtype=np.uint8)
    after = before.copy()
    after[1, 0, 0, 0] += 3
    after[2, :, :, :] -= 2
    label, target = np.array([0, 1, 2, 0]), np.array([1, 2, 0, 1])
    images = {
        "original": write_store("original", {"images": before, "label": label, "target": target}),
        "hit": write_store(
            "hit", {"images": after, "label": label, "target": target, "predicted": np.array([1, 2, 1, 1])}
        ),
        "noise": write_store(
            "noise",
            {"images": before, "label": label, "target": np.full(4, -1), "predicted": np.array([0, 1, 2, 1])},
        ),
    }
    predicted = {"original": [0, 1, 2, 1], "hit": [1, 2, 2, 0], "noise": [0, 1, 2, 1]}
    activations = {
        name: write_store(f"a-{name}", {"predicted": np.array(p)}) for name, p in predicted.items()
    }
    table = metrics.attacked(images, activations).set_index("set")
    assert list(table["accuracy"]) == [0.75, 0.5, 0.75]
    assert table.loc["hit", "target_hits"] == 0.5
    assert table.loc[["original", "noise"], "target_hits"].isna().all()
    assert table.loc["hit", "linf"] == 3
    assert np.isnan(table.loc["original", "differs"])
    assert list(table["differs"][1:]) == [0.5, 0]
    moved = (after.astype(float) - before).reshape(4, -1)
    assert table.loc["hit", "l2"] == pytest.approx(np.linalg.norm(moved, axis=1).mean())
    assert store.read(images["hit"])["images"].dtype == np.uint8
