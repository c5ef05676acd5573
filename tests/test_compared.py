"""Runs side by side: differences beside a second computation, and what the page and the table show."""

import base64
import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from detour import compared, leaderboard, metrics, store, tables
from detour.store import Made
from test_report import Page
from test_reruns import assert_reruns

N, DRAWS = 40, 60
MADE = Made({}, "0" * 16)
NOTHING = {"value": None, "low": None, "high": None}


def results(name: str, low: float, middle: float, high: float) -> dict:
    auc = {"value": middle, "low": low, "high": high}
    half = [{"fpr": 0.05, "flagged": {"value": 0.5, "low": 0.4, "high": 0.6}}]
    return {
        "name": name, "method": "lstm", "seeds": 1, "alarms": [], "adaptive": [],
        "results": [{
            "protocol": "known", "population": "all", "auc": auc, "worst": auc, "worst_cell": "weak",
            "detected": half,
            "attacks": [{"attack": attack, "auc": auc, "detected": half} for attack in ("weak-2", "weak-4")],
        }],
    }  # fmt: skip


def board_of(run: str, **changed) -> dict:
    about = {"method": "fgsm", "accuracy": 0.1, "linf": 4, "l2": 9.0, "norm": "linf", "successful": 0.8}
    return {
        "format": 1, "run": run, "network": {"model": "net", "weights": "w.pt", "digest": "0"},
        "dataset": {"name": "digits", "reference": "", "test": "", "classes": 10, "images": N, "digest": "0"},
        "clean_accuracy": 0.9, "controls": [], "protocols": ["known"], "folds": 2, "seeds": [0],
        "attacks": [about | {"name": f"weak-{eps}", "eps": eps, "of": "weak-2"} for eps in (2, 4)],
        "detectors": [results("lstm", 0.6, 0.7, 0.8)], "versions": {},
    } | changed  # fmt: skip


def scores_of(score: dict[str, np.ndarray], fold: np.ndarray) -> pd.DataFrame:
    """Scores of one detector's test, by set; of each the sources in their order, without those of no fold."""
    rows = pd.concat([
        pd.DataFrame({
            "detector": "lstm", "protocol": "known", "case": "all", "seed": 0, "fold": fold, "role": "test",
            "set": name, "source": np.arange(N), "adversarial": int(name != "original"), "score": values,
        })
        for name, values in score.items()
    ])  # fmt: skip
    return rows[rows["fold"] >= 0]


@pytest.fixture
def write_run(tmp_path):
    """Write a run: `write_run(name, pixels, score, fold, board)`; what is None is left out."""

    def write(name, pixels=None, score=None, fold=None, board=None):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        if pixels is not None:
            with store.create(folder / "images/original.zarr.zip", MADE) as group:
                store.write(group, [{"images": pixels}])
        if score is not None:
            tables.write(folder / "scores.zarr.zip", scores_of(score, fold), MADE)
            verdicts = [
                pd.DataFrame(
                    {
                        "set": s,
                        "source": np.arange(N),
                        "right": True,
                        "successful": True,
                        "failed": False,
                        "hit": False,
                    }
                )
                for s in score
            ]
            tables.write(folder / "verdicts.zarr.zip", pd.concat(verdicts), MADE)
        if board:
            (folder / "leaderboard.json").write_text(json.dumps(board))
        return folder

    return write


@pytest.fixture
def images(rng) -> np.ndarray:
    found = rng.integers(0, 256, (N, 3, 4, 4), dtype=np.uint8)
    # Copies are told apart by their place among each other.
    found[7] = found[3]
    return found


def scored(rng) -> dict[str, np.ndarray]:
    return {"original": rng.normal(size=N), "weak": rng.normal(0.7, size=N)}


def read(out) -> pd.DataFrame:
    return pd.read_csv(
        out / "comparison.csv",
        keep_default_na=False,
        na_values={f"difference{end}": [""] for end in ("", "_low", "_high")},
    )


@pytest.mark.parametrize("dealt", ["alike", "otherwise"])
def test_a_paired_difference_is_that_of_a_plain_second_computation(
    rng, images, write_run, tmp_path, monkeypatch, dealt
):
    """Images in another order, and also in other folds, are drawn as often as their own in the first run."""
    monkeypatch.setattr(compared, "DRAWS", DRAWS)
    fold = rng.permutation(np.arange(N) % 2)
    # Row i of the second run is row order[i] of the first; copies keep their order.
    order = rng.permutation(N)
    at = np.flatnonzero(np.isin(order, [3, 7]))
    order[at] = [3, 7]
    folds = {"a": fold, "b": fold[order] if dealt == "alike" else rng.permutation(fold)}
    score = {"a": scored(rng), "b": scored(rng)}
    runs = [
        write_run("a", images, score["a"], folds["a"], board_of("a")),
        write_run("b", images[order], score["b"], folds["b"], board_of("b")),
    ]
    compared.compare(runs, tmp_path / "out")
    found = read(tmp_path / "out").set_index("run").loc["b"]

    often = np.ones((1 + DRAWS, N), dtype=int)
    for k in (0, 1):
        often[:, folds["a"] == k] = metrics.resampled(int((fold == k).sum()), DRAWS, 0, k)

    def area(run: str, counts: np.ndarray) -> float:
        areas = []
        for k in (0, 1):
            rows = np.repeat(np.flatnonzero(folds[run] == k), counts[folds[run] == k])
            both = [score[run][name][rows] for name in ("original", "weak")]
            areas.append(roc_auc_score(np.repeat([0, 1], len(rows)), np.concatenate(both)))
        return float(np.mean(areas))

    differs = [area("b", counts[order]) - area("a", counts) for counts in often]
    ends = np.quantile(differs[1:], [0.025, 0.975]) - (np.mean(differs[1:]) - differs[0])
    assert found["paired"] == "paired"
    assert found["difference"] == pytest.approx(differs[0])
    assert [found["difference_low"], found["difference_high"]] == pytest.approx(list(ends))


def test_images_that_another_split_tests_in_one_run_alone_are_drawn_alone(
    rng, images, write_run, tmp_path, monkeypatch
):
    """Half of the images are in no test, and another seed deals others."""
    monkeypatch.setattr(compared, "DRAWS", DRAWS)
    score = scored(rng)
    # Two folds, and images that none tests.
    first, second = (np.where(rng.permutation(N) % 2, rng.permutation(N) % 4 // 2, -1) for _ in range(2))
    runs = [
        write_run(name, images, score, fold, board_of(name))
        for name, fold in (("a", first), ("b", second), ("c", first))
    ]
    compared.compare(runs, tmp_path / "out")
    found = read(tmp_path / "out").set_index("run")
    both = ((first >= 0) & (second >= 0)).sum()
    assert list(found["paired"]) == ["", f"{both} of {(second >= 0).sum()} paired", "paired"]

    sizes = {run: [int((fold == k).sum()) for k in (0, 1)] for run, fold in (("a", first), ("b", second))}
    counts = np.ones((1 + DRAWS, N), dtype=int)
    often = {"a": counts, "b": counts.copy()}
    for number, run, fold in ((0, "a", first), (1, "b", second)):
        for k in (0, 1):
            often[run][:, fold == k] = metrics.resampled(sizes[run][k], DRAWS, number, k)
    often["b"][:, first >= 0] = often["a"][:, first >= 0]

    def area(of: np.ndarray, fold: np.ndarray) -> float:
        areas = []
        for k in (0, 1):
            rows = np.repeat(np.flatnonzero(fold == k), of[fold == k])
            of_both = [score[name][rows] for name in ("original", "weak")]
            areas.append(roc_auc_score(np.repeat([0, 1], len(rows)), np.concatenate(of_both)))
        return float(np.mean(areas))

    differs = [area(b, second) - area(a, first) for a, b in zip(often["a"], often["b"], strict=True)]
    ends = np.quantile(differs[1:], [0.025, 0.975]) - (np.mean(differs[1:]) - differs[0])
    assert found.loc["b", "difference"] == pytest.approx(differs[0])
    assert list(found.loc["b", ["difference_low", "difference_high"]]) == pytest.approx(list(ends))


@pytest.mark.parametrize(
    "changed", [{"norm": "l2"}, {"eps": 3}, {"options": {"steps": 20}}, {"method": "pgd"}, {"name": "other"}]
)
def test_runs_whose_attacks_differ_are_named(rng, images, write_run, tmp_path, monkeypatch, changed):
    monkeypatch.setattr(compared, "DRAWS", DRAWS)
    fold, score = np.arange(N) % 2, scored(rng)
    runs = []
    for name, change in (("a", {}), ("b", changed), ("early", {"options": None}), ("c", {})):
        board = board_of(name)
        board["attacks"] = [attack | {"options": {"steps": 10}} | change for attack in board["attacks"]]
        runs.append(write_run(name, images, score, fold, board))
    compared.compare(runs, tmp_path / "out")
    text = Page((tmp_path / "out/comparison.html").read_text()).text
    assert text.count("its attacks are not those of a") == 1
    assert "b: its attacks are not those of a" in text


def test_only_the_same_images_are_paired(rng, images, write_run, tmp_path, monkeypatch):
    """One with itself differs in no sample; with one pixel changed, they are drawn one by one."""
    monkeypatch.setattr(compared, "DRAWS", DRAWS)
    other = images.copy()
    other[0, 0, 0, 0] ^= 1
    fold, score = np.arange(N) % 2, scored(rng)
    runs = [
        write_run(name, pixels, score, fold, board_of(name))
        for name, pixels in (("a", images), ("b", images), ("c", other))
    ]
    compared.compare(runs, tmp_path / "out")
    found = read(tmp_path / "out").set_index("run")
    assert list(found["paired"]) == ["", "paired", "unpaired"]
    width = found["difference_high"].astype(float) - found["difference_low"].astype(float)
    assert list(found.loc[["b", "c"], "difference"]) == pytest.approx([0, 0])
    assert width["b"] == pytest.approx(0)
    assert width["c"] > 0.1
    page = Page((tmp_path / "out/comparison.html").read_text())
    assert f"c: {N - 1} of its {N} test images are among the {N} of a" in page.text


def test_what_a_run_lacks_is_named(write_run, tmp_path):
    early = write_run("early")
    summary = {
        "detector": ["08", "08"],
        "protocol": "known",
        "measure": ["auc", "worst"],
        "value": [0.8, 0.6],
    }
    pd.DataFrame(summary).to_csv(early / "summary.csv", index=False)
    compared.compare([write_run("whole", board=board_of("whole")), early], tmp_path / "out")
    text = Page((tmp_path / "out/comparison.html").read_text()).text
    for said in (
        "whole: has no scores.zarr.zip, so that there are no differences.",
        "early: has no leaderboard.json: its network, dataset, attacks",
        "early: its summary has no population, cell, low, high.",
    ):
        assert said in text
    found = pd.read_csv(tmp_path / "out/comparison.csv", dtype=str, keep_default_na=False)
    assert list(found[["run", "detector", "auc", "worst", "network"]].iloc[1]) == [
        "early",
        "08",
        "0.8",
        "0.6",
        "",
    ]
    with pytest.raises(ValueError, match=r"found no leaderboard\.json and no summary\.csv"):
        compared.compare([early, write_run("empty")], tmp_path / "out")
    with pytest.raises(ValueError, match="found no folder missing, nor results/missing"):
        compared.compare([early, "missing"], tmp_path / "out")
    with pytest.raises(ValueError, match="expected two or more runs, each once"):
        compared.compare([early, early], tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"\xa6\x00\xff", b'a,b\n"1,2\n3'], ids=["empty", "no text", "cut"])
def test_a_summary_that_is_no_table_is_named(write_run, tmp_path, content):
    early = write_run("early")
    (early / "summary.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"early/summary\.csv: is no table .* delete it and run again"):
        compared.compare([write_run("whole", board=board_of("whole")), early], tmp_path / "out")


NAMES = ["<b>&amp;", "$x^2$", "猫と犬", "nan", "-08"]


def test_the_page_asks_for_nothing_and_shows_names_as_they_are(write_run, tmp_path):
    board = board_of("b", detectors=[results(name, 0.6, 0.7, 0.8) for name in NAMES])
    runs = [write_run("a", board=board_of("a")), write_run("b", board=board)]
    compared.compare(runs, tmp_path / "out")
    page = Page((tmp_path / "out/comparison.html").read_text("utf-8"))
    assert not page.links
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp", page.raw)
    for name in NAMES:
        assert name in page.text
        assert f"<b>{name}" not in page.raw
    assert "0.700 [0.600, 0.800]" in page.text
    assert "50.0\N{NO-BREAK SPACE}% [40.0, 60.0]" in page.text
    for source in page.sources:
        drawn = base64.b64decode(source.split(",")[1]).decode()
        assert "clean accuracy" in drawn or "share that is found" in drawn
    found = pd.read_csv(tmp_path / "out/comparison.csv", dtype=str, keep_default_na=False)
    assert list(found["detector"]) == ["lstm", *NAMES]
    assert set(found["auc"]) == {"0.7"}
    assert set(found["eps"]) == {"2, 4"}


def test_runs_have_a_row_each_and_those_of_a_detector_stand_together(write_run, tmp_path):
    """And what no run has is no column."""
    both = [results(name, 0.6, 0.7, 0.8) for name in ("lstm", "knn")]
    runs = [write_run(name, board=board_of(name, detectors=both)) for name in ("first", "second")]
    compared.compare(runs, tmp_path / "out")
    text = (tmp_path / "out/comparison.html").read_text()
    tables = [
        [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
        for table in re.findall(r"(?s)<table>(.*?)</table>", text)
    ]
    (heads, *about), (names, *found) = tables
    assert heads == ["run", "network", "dataset", "test images", "clean accuracy", "eps"]
    assert [row[0] for row in about] == ["first", "second"]
    assert names == ["run", "detector", "protocol", "population", "AUC", "worst cell", "found at 5%"]
    assert [row[:2] for row in found] == [
        [run, detector] for detector in ("lstm", "knn") for run in ("first", "second")
    ]


def test_runs_of_one_name_are_told_apart_by_their_folders(write_run, tmp_path):
    runs = [write_run(name, board=board_of("same")) for name in ("a", "b")]
    compared.compare(runs, tmp_path / "out")
    assert list(read(tmp_path / "out")["run"]) == [str(run) for run in runs]


def test_the_schema_s_example_is_a_leaderboard():
    """So that what these tests read is what a run writes."""
    leaderboard.Leaderboard.model_validate(board_of("a"))


@pytest.fixture
def beside(copied, write_run, images, rng):
    """The finished small run, which is to be compared with another."""
    other = write_run("other", images, scored(rng), np.arange(N) % 2, board_of("other"))
    other.rename(copied.results.parent / "other")
    copied.settings["compare"] = ["other"]
    return copied


@pytest.mark.slow
def test_the_rule_writes_what_the_command_does_and_again_when_a_run_has_changed(beside, tmp_path):
    ran = beside.snakemake("compare")
    assert ran.returncode == 0, ran.stdout
    other = beside.results.parent / "other"
    paths = compared.compare([beside.results, other], tmp_path / "out")
    assert [path.name for path in paths] == ["comparison.html", "comparison.csv"]
    for path in paths:
        assert (beside.results / "comparison" / path.name).read_bytes() == path.read_bytes()
    assert set(read(beside.results / "comparison")["run"]) == {"small", "other"}
    template = beside.folder / "workflow_scripts/detour/comparison.html"
    for path in (other / "leaderboard.json", other / "scores.zarr.zip", template):
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        assert_reruns("comparison/.*", beside, "compare")
        path.write_bytes(content)
    assert_reruns("", beside, "compare")


def test_what_cannot_be_compared_is_told_before_any_job(beside):
    def refused(target: str, message: str) -> None:
        asked = beside.snakemake(target, "--dry-run")
        assert asked.returncode == 1
        assert message in asked.stdout, asked.stdout
        assert "Traceback" not in asked.stdout
        assert "Job stats" not in asked.stdout

    (beside.results.parent / "other/verdicts.zarr.zip").unlink()
    refused(
        "compare",
        "compare[0]: found 'other', and no results/other/verdicts.zarr.zip, which a finished run has; finish that run",
    )
    beside.settings["compare"] = ["never"]
    refused("compare", "compare[0]: found 'never', and no results/never/leaderboard.json")
    refused("results/small/comparison/comparison.csv", "results/never/leaderboard.json")
    # Who does not ask for it is not kept from the run.
    assert beside.snakemake("--dry-run").returncode == 0
    beside.settings["compare"] = []
    refused("compare", "compare: found no run to compare this one with, expected names of finished runs")
