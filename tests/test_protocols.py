from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import asked
from detour import detectors, folds, metrics, tables
from detour.detectors import Run
from detour.protocols import PROTOCOLS, cases

ATTACKS = ["a", "b", "c"]
# Each of its own.
FAMILIES = {name: name for name in ATTACKS}


def test_known_is_every_attack():
    (case,) = cases(["known"], FAMILIES)
    assert (case.name, case.known, case.tested) == ("all", ATTACKS, ATTACKS)


def test_unknown_leaves_each_out_once_and_tests_on_it():
    found = cases(["unknown"], FAMILIES)
    assert [case.tested for case in found] == [["a"], ["b"], ["c"]]
    for case in found:
        assert sorted([*case.known, *case.tested]) == ATTACKS


def test_unknown_leaves_out_the_family_of_what_is_tested():
    found = cases(["unknown"], {"a": "steps", "b": "noise", "c": "steps"})
    assert [(case.name, case.known, case.tested) for case in found] == [
        ("a", ["b"], ["a"]), ("b", ["a", "c"], ["b"]), ("c", ["b"], ["c"]),
    ]  # fmt: skip


def test_transfer_knows_each_alone_and_tests_on_all():
    assert [(case.known, case.tested) for case in cases(["transfer"], FAMILIES)] == [
        ([name], ATTACKS) for name in ATTACKS
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_names_tell_the_cases_apart(protocol):
    names = [case.name for case in cases([protocol], FAMILIES)]
    assert len(set(names)) == len(names)


N, L, C, FOLDS = 300, 3, 4, 3
SETS = ["original", *ATTACKS]
LSTM = asked.entry("lstm", "lstm", hidden=8, epochs=8, batch_size=50, lr=0.02)


@pytest.fixture
def table(write_table) -> Path:
    label = np.arange(N) % C
    found = pd.DataFrame({"source": np.arange(N), "label": label})
    found[[f"fold-{k}" for k in range(FOLDS)]] = folds.folds(label, FOLDS, stratify=True, seed=0)
    return write_table("folds", found)


@pytest.fixture
def run(rng, write_store):
    """Distances that every attack moves, and, shuffled, the versions of every image at random among its sets."""

    def write(shuffled: bool) -> Run:
        values = rng.gamma(4, size=(len(SETS), N, L, C)).astype(np.float32)
        values[1:, :, -1] += 4
        if shuffled:
            order = rng.permuted(np.tile(np.arange(len(SETS))[:, None], N), axis=0)
            values = values[order, np.arange(N)]
        paths = {
            name: write_store(f"{shuffled}-{name}", {"distances": rows})
            for name, rows in zip(SETS, values, strict=True)
        }
        return Run(paths)

    return write


def scored(run, table, made, protocol: str, count: int = 1, seed: int = 0) -> pd.DataFrame:
    """The scores of the first folds."""
    found = []
    for fold in range(count):
        model, path = table.with_name(f"model-{fold}.pt"), table.with_name("scores.zarr.zip")
        job = {"protocols": [protocol], "fold": fold, "seed": seed, "made": made}
        detectors.train(run, table, model, table.with_name("history.zarr.zip"), options=LSTM, **job)
        detectors.evaluate(run, table, model, path, name="lstm", **job)
        found.append(tables.read(path))
    return pd.concat(found, ignore_index=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("shuffled", [True, False])
def test_shuffled_labels_give_chance(run, table, made, protocol, shuffled):
    """And in order they do not, so that there was something to be found."""
    versions = run(shuffled)
    scores = scored(versions, table, made, protocol, FOLDS)
    verdicts = pd.DataFrame({"set": np.repeat(SETS, N), "source": np.tile(np.arange(N), len(SETS))})
    verdicts[["right", "successful", "hit", "failed"]] = True
    _, summary = metrics.evaluate(scores, verdicts, draws=500, fpr=[0.1], base_rate=0.001, seed=0)
    row = summary[(summary["measure"] == "auc") & (summary["population"] == "all")].iloc[0]
    error = (row["high"] - row["low"]) / 4
    assert error < 0.04
    assert abs(row["value"] - 0.5) < 3 * error if shuffled else row["value"] > 0.8


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scores_are_of_the_test_and_of_the_validation_s_originals(run, table, made, protocol):
    scores = scored(run(False), table, made, protocol, count=2)
    expected = {
        (fold, case.name, role, name, source)
        for fold in range(2)
        for case in cases([protocol], FAMILIES)
        for role, sets in (("validation", ["original"]), ("test", ["original", *case.tested]))
        for name in sets
        for source in folds.sources(table, fold, role)
    }
    found = list(scores[["fold", "case", "role", "set", "source"]].itertuples(index=False, name=None))
    assert set(found) == expected
    assert len(found) == len(expected)
    assert ((scores["set"] != "original") == scores["adversarial"]).all()
    assert (scores[["detector", "protocol", "seed"]] == ["lstm", protocol, 0]).all(axis=None)


def test_an_attack_that_is_not_known_leaves_no_trace_in_its_detector(run, table, made, write_store):
    """Whatever the left-out attack does, and if it did nothing, its detector is the same."""
    before = run(False)
    scored(before, table, made, "unknown")
    first = detectors.load(table.with_name("model-0.pt"), "unknown b").state()["net"]
    other = write_store("other", {"distances": np.zeros((N, L, C), np.float32)})
    scored(Run(dict(before.distances) | {"b": other}), table, made, "unknown")
    again = detectors.load(table.with_name("model-0.pt"), "unknown b").state()["net"]
    changed = detectors.load(table.with_name("model-0.pt"), "unknown a").state()["net"]
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != changed[name]).any() for name in first)


def test_a_seed_trains_another_detector(run, table, made):
    versions = run(False)
    first, again, other = (scored(versions, table, made, "known", seed=seed)["score"] for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("role", ["train", "validation"])
def test_a_planted_leak_is_refused(run, table, made, role):
    """A source of the test that the detector learned from, as after an edit of the folds."""
    versions = run(False)
    scored(versions, table, made, "known")
    dealt = tables.read(table)
    source = dealt["source"][dealt["fold-0"] == role].iloc[0]
    dealt.loc[dealt["source"] == source, "fold-0"] = "test"
    tables.write(table, dealt, made)
    paths = table.with_name("model-0.pt"), table.with_name("scores.zarr.zip")
    with pytest.raises(ValueError, match=f"source {source} was in {role} and is in the test of fold 0"):
        detectors.evaluate(
            versions, table, *paths, name="lstm", protocols=["known"], seed=0, fold=0, made=made
        )
