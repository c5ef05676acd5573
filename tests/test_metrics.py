import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from detour import areas, metrics
from detour.protocols import cases

N, FOLDS = 60, 3
ATTACKS = ["strong", "weak"]
SETTINGS = {"draws": 200, "fpr": [0.05, 0.1], "base_rate": 0.001, "seed": 0}


def scores_of(rng, detectors, protocols=("known",), seeds=(0,)) -> pd.DataFrame:
    """Scores of detectors by their signal, in folds that are on different scales."""
    tables = []
    shifts = {"original": 0, "strong": 1, "weak": 0.3}
    for detector, signal in detectors.items():
        for protocol in protocols:
            for seed in seeds:
                for fold in range(FOLDS):
                    for case in cases([protocol], ATTACKS):
                        for role, sets in (
                            ("validation", ["original"]),
                            ("test", ["original", *case.tested]),
                        ):
                            for name in sets:
                                score = rng.normal(shifts[name] * signal, size=N // FOLDS) * 10**fold
                                source = 100 * (role == "validation") + fold * len(score)
                                tables.append(pd.DataFrame({
                                    "detector": detector, "protocol": protocol, "seed": seed, "fold": fold,
                                    "case": case.name, "role": role, "set": name,
                                    "source": source + np.arange(len(score)),
                                    "adversarial": int(name != "original"), "score": score,
                                }))  # fmt: skip
    return pd.concat(tables)


@pytest.fixture
def verdicts(rng) -> pd.DataFrame:
    right = rng.random(N) < 0.8
    tables = []
    for name in ("original", *ATTACKS):
        moved = rng.random(N) < 0.5
        tables.append(pd.DataFrame({
            "set": name, "source": np.arange(N), "right": right, "successful": right & moved,
            "failed": right & ~moved, "hit": moved & (rng.random(N) < 0.5),
        }))  # fmt: skip
    return pd.concat(tables)


tied = st.lists(st.integers(0, 5), min_size=1, max_size=12)


@settings(max_examples=50, deadline=None)
@given(tied, tied, st.integers(0, 99))
def test_weighted_areas_are_those_of_repeated_images(negative, positive, seed):
    """Against scikit-learn, on samples in which images are written out as often as they are drawn."""
    rng = np.random.default_rng(seed)
    scores = np.array(negative, dtype=float), np.array(positive, dtype=float)
    weights = [rng.integers(0, 3, (4, len(s))) for s in scores]
    of_all = np.ones((len(positive), 1), dtype=bool)
    won = [
        areas.beaten(scores[0], weights[0], scores[1]),
        areas.beaten_high(scores[0], weights[0], scores[1], 0.3),
    ]
    (aucs,), (partial,) = (metrics.mean_of(values, weights[1], of_all) for values in won)
    for b in range(4):
        repeated = [np.repeat(s, w[b]) for s, w in zip(scores, weights, strict=True)]
        truth = np.repeat([0, 1], [len(r) for r in repeated])
        if len(np.unique(truth)) < 2:
            assert np.isnan(aucs[b])
            assert np.isnan(partial[b])
            continue
        joined = np.concatenate(repeated)
        assert aucs[b] == pytest.approx(roc_auc_score(truth, joined))
        assert areas.auc(truth == 1, joined) == pytest.approx(roc_auc_score(truth, joined))
        # scikit-learn's is McClish's: between the diagonal's area and the whole, from 0.5 to 1.
        mcclish = 0.5 * (1 + (partial[b] * 0.3 - 0.3**2 / 2) / (0.3 - 0.3**2 / 2))
        assert mcclish == pytest.approx(roc_auc_score(truth, joined, max_fpr=0.3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="1 of 3 are not finite; if this is a training, it has diverged"):
        areas.auc(np.array([True, False, True]), np.array([0.1, value, 0.2]))


@pytest.mark.parametrize(
    ("n", "fpr", "rank"), [(19, 0.05, 19), (18, 0.05, None), (100, 0.05, 96), (100, 0.01, 100), (9, 0.1, 9)]
)
def test_the_threshold_is_the_conformal_rank(rng, n, fpr, rank):
    scores = rng.permutation(n).astype(float)
    assert metrics.threshold(scores, fpr) == (np.inf if rank is None else rank - 1)


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 300), fpr=st.sampled_from([0.01, 0.05, 0.1, 0.3, 0.5]), seed=st.integers(0, 99))
def test_the_threshold_is_the_conformal_one_by_a_plain_count(n, fpr, seed):
    scores = np.random.default_rng(seed).permutation(np.arange(n)).astype(float)
    # The least score with which a further image, equally likely in every place, is above at most at this rate.
    hundred = round(100 * fpr)
    allowed = [s for s in scores if 100 * ((scores > s).sum() + 1) <= hundred * (n + 1)]
    assert metrics.threshold(scores, fpr) == min(allowed, default=np.inf)


def test_genuine_images_are_flagged_at_most_at_the_wanted_rate(rng):
    """On average over validation and test, as is the promise of the conformal threshold."""
    rates = [(rng.normal(size=50) > metrics.threshold(rng.normal(size=59), 0.05)).mean() for _ in range(4000)]
    # 57 of 60 ranks are below: the expectation is 0.05 exactly.
    assert np.mean(rates) == pytest.approx(0.05, abs=3 * np.std(rates) / np.sqrt(4000))


def test_precision_is_bayes():
    found = metrics.precision(np.array([0.8, 0.0]), np.array([0.01, 0.0]), 0.001)
    # Of 1,000,000 images 1,000 are adversarial: 800 are flagged, and 9,990 others.
    assert found[0] == pytest.approx(800 / (800 + 9990))
    assert np.isnan(found[1])


def chosen(table: pd.DataFrame, **key) -> pd.Series:
    for name, value in key.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_no_interval_of_a_share_is_beyond_0_or_1(rng, verdicts):
    scores = scores_of(rng, {"perfect": 20.0, "blind": 0.0}, ("known", "unknown", "transfer"))
    for table in metrics.evaluate(scores, verdicts, **SETTINGS):
        assert table["low"].min() >= 0
        assert table["high"].max() <= 1
        assert (table["low"] <= table["high"] + 1e-12)[table["low"].notna()].all()


@pytest.mark.parametrize("population", metrics.POPULATIONS)
@pytest.mark.parametrize("originals", metrics.ORIGINALS)
def test_auc_is_the_mean_over_folds_of_the_images_that_count(rng, verdicts, population, originals):
    scores = scores_of(rng, {"good": 2.0, "blind": 0.0})
    table, _ = metrics.evaluate(scores, verdicts, **SETTINGS)
    joined = scores[scores["role"] == "test"].merge(verdicts, on=["set", "source"])
    counts = (joined["set"] == "original") & ((originals == "all") | joined["right"])
    counts |= (joined["set"] != "original") & (True if population == "all" else joined.get(population, False))
    for attack, sets in (("all", ATTACKS), ("weak", ["weak"])):
        kept = joined[counts & joined["set"].isin(["original", *sets]) & (joined["detector"] == "good")]
        values = [roc_auc_score(f["adversarial"], f["score"]) for _, f in kept.groupby("fold")]
        row = chosen(
            table, detector="good", measure="auc", attack=attack, population=population, originals=originals
        )
        assert row["value"] == pytest.approx(np.mean(values))
        assert row["std"] == pytest.approx(np.std(values, ddof=1))
        assert (row["folds"], row["seeds"]) == (FOLDS, 1)


def test_rates_are_counted_at_thresholds_of_the_validation(rng, verdicts):
    scores = scores_of(rng, {"good": 2.0})
    table, _ = metrics.evaluate(scores, verdicts, **SETTINGS)
    fpr, tpr = [], []
    for _, fold in scores.groupby("fold"):
        genuine = np.sort(fold["score"][fold["role"] == "validation"])
        # 20 originals: ceil(21 * 0.9) = 19.
        test = fold[(fold["role"] == "test") & fold["set"].isin(["original", "weak"])]
        flagged = test["score"] > genuine[18]
        fpr.append(flagged[test["adversarial"] == 0].mean())
        tpr.append(flagged[test["adversarial"] == 1].mean())
    found = chosen(table, measure="fpr@0.1", originals="all")
    assert found["value"] == pytest.approx(np.mean(fpr))
    found = chosen(table, measure="tpr@0.1", attack="weak", population="all")
    assert found["value"] == pytest.approx(np.mean(tpr))
    expected = metrics.precision(np.array([np.mean(tpr)]), np.array([np.mean(fpr)]), 0.001)[0]
    found = chosen(table, measure="precision@0.1", attack="weak", population="all")
    assert found["value"] == pytest.approx(expected)


def test_the_interval_of_a_precision_is_between_0_and_1(rng, verdicts):
    table, _ = metrics.evaluate(scores_of(rng, {"good": 2.0}), verdicts, **SETTINGS)
    found = table[table["measure"].str.startswith("precision")].dropna(subset="low")
    assert len(found)
    assert ((found["low"] >= 0) & (found["high"] <= 1)).all()


def test_too_few_originals_promise_nothing(rng, verdicts):
    table, _ = metrics.evaluate(scores_of(rng, {"good": 2.0}), verdicts, **SETTINGS | {"fpr": [0.01]})
    assert table[table["measure"].str.contains("@")]["value"].isna().all()


def test_the_interval_is_that_of_images_drawn_again(rng, verdicts):
    """A slow bootstrap, image by image, of one fold; and half the width is known from theory."""
    scores = scores_of(rng, {"good": 2.0})
    scores = scores[scores["fold"] == 0]
    table, _ = metrics.evaluate(scores, verdicts, **SETTINGS | {"draws": 2000})
    row = chosen(table, measure="auc", attack="all", population="all", originals="all")
    wide = scores[scores["role"] == "test"].pivot(index="source", columns="set", values="score")
    values = []
    for _ in range(2000):
        drawn = wide.iloc[rng.integers(len(wide), size=len(wide))]
        values.append(np.mean(drawn[ATTACKS].to_numpy().ravel()[:, None] > drawn["original"].to_numpy()))
    low, high = np.quantile(values, metrics.QUANTILES) - (np.mean(values) - row["value"])
    assert row["low"] == pytest.approx(low, abs=0.02)
    assert row["high"] == pytest.approx(high, abs=0.02)


def test_the_interval_holds_what_is_seen_where_every_image_beats_its_original(verdicts):
    """As of a small shift: samples have more pairs of an image with its own original, and a greater AUC."""
    rng = np.random.default_rng(1)
    scores = scores_of(rng, {"good": 0.0})
    original = scores[(scores["role"] == "test") & (scores["set"] == "original")]
    own = dict(zip(original["source"], original["score"], strict=True))
    attacked = (scores["role"] == "test") & (scores["set"] != "original")
    scores.loc[attacked, "score"] = scores.loc[attacked, "source"].map(own) + 1e-6
    table, _ = metrics.evaluate(scores, verdicts, **SETTINGS)
    row = chosen(table, measure="auc", attack="all", population="all", originals="all")
    # Every image is above its own original and above half of the others.
    assert row["value"] == pytest.approx(0.5 + 0.5 / (N // FOLDS))
    assert (row["low"] + row["high"]) / 2 == pytest.approx(row["value"], abs=0.002)


def test_differences_are_paired(rng, verdicts):
    """A detector with the first one's scores on another scale differs by nothing, whatever is drawn."""
    scores = scores_of(rng, {"first": 1.0})
    same = scores.assign(detector="same", score=2 * scores["score"] + 1)
    blind = scores_of(rng, {"blind": 0.0})
    table, summary = metrics.evaluate(pd.concat([scores, same, blind]), verdicts, **SETTINGS)
    columns = ["difference", "difference_low", "difference_high"]
    defined = table["value"].notna()
    assert (table.loc[(table["detector"] == "same") & defined, columns] == 0).all(axis=None)
    assert table.loc[table["detector"] == "first", columns].isna().all(axis=None)
    row = chosen(summary, detector="blind", measure="auc", population="all")
    assert row["difference"] < row["difference_high"] < 0
    first = chosen(summary, detector="first", measure="auc", population="all")
    assert row["difference"] == pytest.approx(row["value"] - first["value"])


@pytest.mark.parametrize(
    ("protocol", "cells"),
    [
        ("known", [("all", "strong"), ("all", "weak")]),
        ("unknown", [("strong", "strong"), ("weak", "weak")]),
        ("transfer", [("strong", "weak"), ("weak", "strong")]),
    ],
)
def test_the_summary_has_the_worst_cell_beside_the_mean(rng, verdicts, protocol, cells):
    table, summary = metrics.evaluate(scores_of(rng, {"good": 2.0}, [protocol]), verdicts, **SETTINGS)
    found = [
        chosen(table, measure="auc", case=case, attack=attack, population="all", originals="all")
        for case, attack in cells
    ]
    auc, worst = (chosen(summary, measure=m, population="all") for m in ("auc", "worst"))
    # Equally many images of each attack against the same originals: together is the mean, too.
    assert auc["value"] == pytest.approx(np.mean([row["value"] for row in found]))
    least = min(found, key=lambda row: row["value"])
    assert worst[["value", "low", "high"]].tolist() == least[["value", "low", "high"]].tolist()
    named = (least["case"], least["attack"])
    assert worst["cell"] == {"known": named[1], "unknown": named[1], "transfer": " > ".join(named)}[protocol]


def test_seeds_are_averaged_and_detectors_without_any_compared(rng, verdicts):
    several = scores_of(rng, {"good": 2.0}, seeds=(0, 1))
    single = scores_of(rng, {"blind": 0.0})
    table, _ = metrics.evaluate(pd.concat([several, single]), verdicts, **SETTINGS)
    key = {"measure": "auc", "attack": "all", "population": "all", "originals": "all"}
    row = chosen(table, detector="good", **key)
    kept = several[several["role"] == "test"]
    values = [roc_auc_score(f["adversarial"], f["score"]) for _, f in kept.groupby(["seed", "fold"])]
    assert row["value"] == pytest.approx(np.mean(values))
    assert row["seeds"] == 2
    assert chosen(table, detector="blind", **key)["difference"] < 0


def test_an_attack_that_does_nothing_is_flagged_as_the_originals_are(rng, verdicts):
    scores = scores_of(rng, {"good": 2.0})
    original = scores[(scores["role"] == "test") & (scores["set"] == "original")]
    scores = pd.concat([
        scores[scores["set"] != "weak"],
        original.assign(set="weak", adversarial=1),
    ])  # fmt: skip
    table, _ = metrics.evaluate(scores, verdicts, **SETTINGS)
    fpr = chosen(table, measure="fpr@0.1", originals="all")
    tpr = chosen(table, measure="tpr@0.1", attack="weak", population="all")
    assert tpr[["value", "low", "high"]].tolist() == fpr[["value", "low", "high"]].tolist()
    assert chosen(table, measure="auc", attack="weak", population="all", originals="all")["value"] == 0.5


def test_mean_roc_rises_from_corner_to_corner_and_holds_the_mean_auc(rng):
    good = scores_of(rng, {"good": 2.0})
    good = good[good["role"] == "test"]
    mean, std = metrics.mean_roc(good)
    assert (mean[0], mean[-1]) == (0, 1)
    assert (np.diff(mean) >= 0).all()
    assert (std >= 0).all()
    area = np.trapezoid(mean, metrics.FALSE_POSITIVE_RATES)
    expected = np.mean([roc_auc_score(f["adversarial"], f["score"]) for _, f in good.groupby("fold")])
    assert area == pytest.approx(expected, abs=0.01)


def of_weak(scores: pd.DataFrame) -> pd.Series:
    """The row of one score: of a test image under an attack."""
    return (scores["fold"] == 1) & (scores["set"] == "weak") & (scores["source"] == 27)


UNRANKED = {
    "nan": (lambda s: s.assign(score=s["score"].mask(of_weak(s))), "the score nan .* is not finite"),
    "inf": (lambda s: s.assign(score=s["score"].mask(of_weak(s), np.inf)), "the score inf .* is not finite"),
    "of the validation": (
        lambda s: s.assign(score=s["score"].mask(s["role"] == "validation")),
        "is not finite",
    ),
    "missing": (lambda s: s[~of_weak(s)], "stands in a set that has fewer scores than another of its fold"),
    "twice": (lambda s: pd.concat([s, s[of_weak(s)]]), "stands twice"),
    "a fold less": (
        lambda s: s[(s["seed"] != 1) | (s["fold"] != 2)],
        "found 5 trainings of 2 seeds and 3 folds",
    ),
}


@pytest.mark.parametrize("how", UNRANKED)
def test_scores_that_have_no_place_in_a_ranking_are_refused_by_name(rng, verdicts, how):
    """In a ranking of floats NaN is the highest, and what is missing is NaN: an AUC of 1 for nothing."""
    change, message = UNRANKED[how]
    scores = scores_of(rng, {"good": 2.0, "blind": 0.0}, seeds=(0, 1))
    broken = pd.concat([scores[scores["detector"] == "good"], change(scores[scores["detector"] == "blind"])])
    metrics.evaluate(scores, verdicts, **SETTINGS)
    with pytest.raises(ValueError, match=f"scores: (?s:.*)blind.*{message}|scores: .*{message}") as error:
        metrics.evaluate(broken, verdicts, **SETTINGS)
    assert "blind" in str(error.value)


def test_an_image_without_a_verdict_is_refused(rng, verdicts):
    scores = scores_of(rng, {"good": 2.0})
    gone = verdicts[(verdicts["set"] != "weak") | (verdicts["source"] != 27)]
    with pytest.raises(ValueError, match="set weak, source 27 is of an image that has no verdict"):
        metrics.evaluate(scores, gone, **SETTINGS)


# What reads as a number, as nothing or as a truth, and is a name.
ODD = ["NA", "null", "16", "08", "1e3", "nan", "inf", "True"]


def test_names_are_text_whatever_they_look_like(rng, verdicts):
    """The same numbers as under plain names."""
    plain = scores_of(rng, {"good": 2.0, "blind": 0.0}, ("known", "unknown", "transfer"))
    for i in range(0, len(ODD), 2):
        renamed = dict(
            zip(["strong", "weak", "good", "blind"], [*ODD[i : i + 2], *ODD[i - 2 : i or None]], strict=True)
        )
        odd = plain.replace({"set": renamed, "case": renamed, "detector": renamed})
        tables = metrics.evaluate(plain, verdicts, **SETTINGS)
        found = metrics.evaluate(odd, verdicts.replace({"set": renamed}), **SETTINGS)
        for table, other in zip(tables, found, strict=True):
            expected = table.replace(dict.fromkeys(("attack", "case", "detector"), renamed))
            if "cell" in table:
                cells = {a: b for a, b in renamed.items() if a in ("strong", "weak")}
                cells |= {
                    f"{a} > {b}": f"{renamed[a]} > {renamed[b]}"
                    for a, b in (("strong", "weak"), ("weak", "strong"))
                }
                expected["cell"] = expected["cell"].replace(cells)
            pd.testing.assert_frame_equal(other, expected)


def test_rates_that_are_alike_are_two(rng, verdicts):
    """Rounded to six digits they would be one, with the values of both."""
    wanted = [0.1234567, 0.1234568, 1e-7]
    table, _ = metrics.evaluate(scores_of(rng, {"good": 2.0}), verdicts, **SETTINGS | {"fpr": wanted})
    of = table[(table["attack"] == "weak") & (table["population"] == "all") & (table["originals"] == "all")]
    assert [m for m in of["measure"] if m.startswith("tpr@")] == [f"tpr@{rate}" for rate in wanted]


def test_one_detector_differs_from_none_and_has_the_columns(rng, verdicts):
    for table in metrics.evaluate(scores_of(rng, {"good": 2.0}), verdicts, **SETTINGS):
        assert table[["difference", "difference_low", "difference_high"]].isna().all(axis=None)
