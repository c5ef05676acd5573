import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy

from detour import areas, histories, tables

LEARNED = {"validation_auc": 0.9, "guessed_auc": 0.6, "loss": 0.3, "guessed_loss": 0.5}
AT_CHANCE = LEARNED | {"validation_auc": 0.55}
FLAT = LEARNED | {"loss": 0.52}


def test_random_scores_stay_below_what_guessing_reaches_with_98_percent(rng):
    adversarial = np.arange(250) >= 50
    limit = histories.guessed_auc(50, 200)
    reached = np.array([areas.auc(adversarial, rng.normal(size=250)) for _ in range(4000)])
    assert 0.015 < (reached > limit).mean() < 0.031


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_the_loss_of_guessing_is_the_entropy(share):
    assert histories.guessed_loss(share) == pytest.approx(entropy([share, 1 - share]))


def test_one_good_pass_is_enough():
    assert not histories.failure([AT_CHANCE, LEARNED, AT_CHANCE])
    assert not histories.failure([{key: LEARNED[key] for key in ("validation_auc", "guessed_auc")}])


def test_what_learns_nothing_is_said_with_what_to_try():
    assert (
        histories.failure([AT_CHANCE] * 2)
        == "its validation AUC is 0.55 at best, and guessing may reach 0.60"
    )
    assert histories.failure([FLAT] * 2) == "its loss never falls below that of guessing, 0.500"
    assert "another scale (layer" in histories.remedy([AT_CHANCE])
    assert "another layer" in histories.remedy([{"validation_auc": 0.5, "guessed_auc": 0.6, "loss": np.nan}])


@pytest.mark.parametrize(("failed", "warned"), [(0, False), (1, False), (2, True), (4, True)])
def test_a_run_warns_of_what_fails_in_half_of_its_trainings(tmp_path, made, failed, warned):
    rows = [
        {
            "detector": name,
            "protocol": "known",
            "case": "all",
            "seed": seed,
            "fold": fold,
            "epoch": epoch,
            **seen,
        }
        for name in ("good", "NA")
        for i, (seed, fold) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1)))
        for epoch, seen in enumerate((AT_CHANCE, AT_CHANCE if name == "NA" and i < failed else LEARNED))
    ]
    tables.write(tmp_path / "histories.zarr.zip", pd.DataFrame(rows), made)
    messages = histories.warnings(tables.read(tmp_path / "histories.zarr.zip").to_dict("records"))
    assert len(messages) == warned
    for message in messages:
        expected = (
            f"NA may have learned nothing: known all ({failed} of 4 trainings); in the first, its validation"
        )
        assert message.startswith(expected)
