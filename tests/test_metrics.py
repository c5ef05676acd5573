import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from detour import areas, calibrated, metrics
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
                    for case in cases([protocol], dict(zip(ATTACKS, ATTACKS, strict=True))):
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
    # Whatever is drawn, the flagged are as often adversarial as the others.
    found = chosen(table, measure="precision@0.1", attack="weak", population="all")
    assert found[["value", "low", "high"]].tolist() == pytest.approx([0.001] * 3)
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


def graded(detector: str, fold: int, sources: np.ndarray, **scores: list[float]) -> pd.DataFrame:
    """Scores that are written out: of the test images of each set, and of a validation of 1 to 19."""
    of_test = [
        pd.DataFrame({"set": name, "source": sources, "role": "test", "score": values})
        for name, values in scores.items()
    ]
    genuine = pd.DataFrame({
        "set": "original", "source": 1000 + np.arange(19), "role": "validation", "score": np.arange(1.0, 20),
    })  # fmt: skip
    table = pd.concat([*of_test, genuine])
    about = {"detector": detector, "protocol": "known", "case": "all", "seed": 0, "fold": fold}
    return table.assign(**about, adversarial=(table["set"] != "original").astype(int))


def of_shares(originals: list[list[bool]], attacked: list[list[bool]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of folds in which those images are flagged, and verdicts of a network that is always right."""
    scores, start = [], 0
    for fold, (genuine, others) in enumerate(zip(originals, attacked, strict=True)):
        sources = start + np.arange(len(genuine))
        start += len(genuine)
        scores.append(
            graded("one", fold, sources, original=np.where(genuine, 30.0, 0), weak=np.where(others, 30.0, 0))
        )
    verdicts = pd.concat(
        pd.DataFrame({"set": name, "source": np.arange(start), "right": True, "successful": name == "weak",
                      "failed": False, "hit": False})
        for name in ("original", "weak")
    )  # fmt: skip
    return pd.concat(scores), verdicts


def wilsons(count: int, of: int) -> tuple[float, float]:
    found = binomtest(count, of).proportion_ci(method="wilson")
    return found.low, found.high


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=3), genuine=st.booleans(), attacked=st.booleans()
)
def test_a_share_of_none_or_of_all_is_not_known_for_certain(sizes, genuine, attacked):
    """Wilson's interval over the images of all folds, and the precision that is possible within both."""
    folds = [[genuine] * n for n in sizes], [[attacked] * n for n in sizes]
    table, _ = metrics.evaluate(*of_shares(*folds), **SETTINGS | {"fpr": [0.05], "draws": 20})
    rates = {}
    for measure, all_of_them, of in (("fpr@0.05", genuine, "original"), ("tpr@0.05", attacked, "weak")):
        row = chosen(table, measure=measure, attack=of, population="all", originals="all")
        assert row["value"] == all_of_them
        assert (row["low"], row["high"]) == pytest.approx(wilsons(all_of_them * sum(sizes), sum(sizes)))
        assert row["images"] == sum(sizes)
        rates[measure] = row
    false, true = rates["fpr@0.05"], rates["tpr@0.05"]
    row = chosen(table, measure="precision@0.05", attack="weak", population="all")
    if not genuine and not attacked:
        assert row[["value", "low", "high"]].isna().all()
        return
    least, most = (
        true[a] * 0.001 / (true[a] * 0.001 + false[b] * 0.999) for a, b in (("low", "high"), ("high", "low"))
    )
    assert (row["low"], row["high"]) == pytest.approx((least, most))
    assert row["low"] < row["high"]


def test_no_false_alarm_among_100_is_no_precision_of_100(rng):
    """Wilson's upper end of 0 of 100 is z^2 / (100 + z^2), with z = 1.96: 3.7 %."""
    none = [[False] * 50] * 2
    table, _ = metrics.evaluate(*of_shares(none, [[True] * 50] * 2), **SETTINGS | {"fpr": [0.05]})
    row = chosen(table, measure="fpr@0.05", originals="all")
    assert (row["value"], row["low"]) == (0, 0)
    assert row["high"] == pytest.approx(1.959964**2 / (100 + 1.959964**2))
    row = chosen(table, measure="precision@0.05", population="all")
    assert (row["value"], row["high"]) == (1, pytest.approx(1))
    assert row["low"] < 0.03


def test_a_rate_that_one_fold_has_too_few_originals_for_is_told_of_none(rng, verdicts):
    """A mean over the other folds would be of some of the images, and be taken for one of all."""
    scores = scores_of(rng, {"good": 2.0}).reset_index(drop=True)
    genuine = scores[(scores["fold"] == 0) & (scores["role"] == "validation")]
    few, none = (scores.drop(genuine.index[count:]) for count in (8, 0))
    for scored, told in ((scores, True), (few, False), (none, False)):
        table, _ = metrics.evaluate(scored, verdicts, **SETTINGS)
        for measure in ("fpr@0.1", "tpr@0.1", "precision@0.1"):
            found = table[table["measure"] == measure]
            assert len(found)
            assert found["value"].notna().any() == told, measure
        assert calibrated.lacking(table, [0.1]) == ([] if told else [0.1])


def test_an_interval_of_the_bootstrap_stays_where_it_has_width(rng, verdicts):
    """Against the percentiles themselves."""
    scores = scores_of(rng, {"good": 2.0})
    table, _ = metrics.evaluate(scores, verdicts, **SETTINGS)
    row = chosen(table, measure="fpr@0.1", originals="all")
    drawn, seen = [], []
    for fold, part in scores.groupby("fold"):
        genuine = np.sort(part["score"][part["role"] == "validation"])
        hit = (
            part[(part["role"] == "test") & (part["set"] == "original")].sort_values("source")["score"]
            > genuine[18]
        )
        weights = metrics.resampled(len(hit), 200, 0, fold)
        drawn.append((weights[1:] @ hit.to_numpy(float)) / len(hit))
        seen.append(hit.mean())
    samples = np.mean(drawn, axis=0)
    assert 0 < row["value"] < 1
    expected = np.quantile(samples, metrics.QUANTILES) - (samples.mean() - np.mean(seen))
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.clip(expected, 0, 1)))


def test_a_share_of_one_image_a_fold_has_width_though_every_sample_is_the_same():
    table, _ = metrics.evaluate(
        *of_shares([[True], [False]], [[True], [False]]), **SETTINGS | {"fpr": [0.05], "draws": 20}
    )
    row = chosen(table, measure="tpr@0.05", population="all", originals="all")
    assert row["value"] == 0.5
    assert (row["low"], row["high"]) == pytest.approx(wilsons(1, 2))


def test_images_are_the_sources_that_count(rng, verdicts):
    """By a plain count, whatever the seeds; together, an image with all its versions is one."""
    scores = scores_of(rng, {"good": 2.0}, seeds=(0, 1))
    table, _ = metrics.evaluate(scores, verdicts, **SETTINGS)
    of_attacks = verdicts[verdicts["set"] != "original"].assign(all=True)
    right = verdicts[(verdicts["set"] == "original") & verdicts["right"]]
    for row in table.itertuples():
        if row.attack == "original":
            assert row.images == (N if row.originals == "all" else len(right))
        else:
            kept = of_attacks[of_attacks[row.population] & of_attacks["set"].isin(
                ATTACKS if row.attack == "all" else [row.attack])]  # fmt: skip
            assert row.images == kept["source"].nunique()


def few_of(verdicts: pd.DataFrame, name: str, count: int) -> pd.DataFrame:
    """Verdicts in which an attack was successful on so many images, and the other on most."""
    order = verdicts.groupby("set")["source"].rank()
    successful = (verdicts["set"] != "original") & ((verdicts["set"] != name) | (order <= count))
    return verdicts.assign(successful=successful)


@pytest.mark.parametrize(
    ("count", "named"), [(2, "strong"), (metrics.FEW - 1, "strong"), (metrics.FEW, "weak")]
)
def test_a_cell_of_few_images_is_not_named_the_worst(rng, verdicts, count, named):
    scores = scores_of(rng, {"good": 2.0})
    table, summary = metrics.evaluate(scores, few_of(verdicts, "weak", count), **SETTINGS)
    cells = {
        attack: chosen(table, measure="auc", attack=attack, population="successful", originals="all")
        for attack in ATTACKS
    }
    assert cells["weak"]["images"] == count
    worst = chosen(summary, measure="worst", population="successful")
    assert (worst["cell"], worst["images"]) == (named, cells[named]["images"])
    assert worst["value"] == cells[named]["value"]
    assert chosen(summary, measure="worst", population="all")["cell"] == "weak"


def test_where_every_cell_has_few_images_the_worst_is_among_them(rng, verdicts):
    scores = scores_of(rng, {"good": 2.0})
    few = few_of(few_of(verdicts, "weak", 3), "strong", 3).assign(
        successful=lambda v: (v["set"] != "original") & (v.groupby("set")["source"].rank() <= 3)
    )
    _, summary = metrics.evaluate(scores, few, **SETTINGS)
    worst = chosen(summary, measure="worst", population="successful")
    assert worst["images"] == 3
    assert 0 <= worst["value"] <= 1


@pytest.mark.parametrize(("count", "said"), [(4, True), (40, False)])
def test_an_auc_of_no_width_on_few_images_is_told(count, said):
    """One image a fold is drawn again and again: 0.75 [0.75, 0.75] would be for certain."""
    halves = [[False] * (count // 4)] * 4
    scores, verdicts = of_shares(halves, halves)
    summary = metrics.evaluate(scores, verdicts, **SETTINGS | {"fpr": [0.05], "draws": 20})[1]
    line = metrics.unsure(summary)
    assert bool(line) == said
    if said:
        assert "fewer than 10 test images" in line
        # One attack: its cell is the mean and the worst, and stands once.
        assert line.count("one/known/all/weak: 0.500 of 4") == 1
