import json
import re
import subprocess
import sys
from itertools import accumulate, chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks import report, tables, timing, unseen
from benchmarks.sections import SECTIONS, measured, module
from detour import Detector, metrics, pngs
from detour.protocols import cases

ROOT = Path(__file__).parents[1]


def test_candidates_take_turns_after_one_call_of_each():
    calls = []
    found = timing.side_by_side({name: lambda n=name: calls.append(n) or n for name in "abc"}, "b", 2)
    assert "".join(calls) == "abc" * 3
    assert {name: f.output for name, f in found.items()} == {"a": "a", "b": "b", "c": "c"}


def test_the_ratio_is_that_of_the_rounds_not_of_the_medians():
    # A machine that is twice as slow in the second round slows both.
    found = timing.compared([2, 4, 3], [1, 2, 1])
    assert (found.seconds, found.ratio, found.low, found.high) == (3, 2, 2, 3)


def test_the_first_call_is_in_no_median(monkeypatch):
    clock = accumulate(chain.from_iterable((0, seconds) for seconds in (50, 3, 1, 2)))
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    (found,) = timing.side_by_side({"a": int}, "a", 3).values()
    assert (found.first, found.seconds) == (50, 2)


@pytest.mark.slow
def test_a_process_alone_has_its_own_peak():
    held = b"x" * 400_000_000
    assert timing.peak_mb() > 400
    peaks = [timing.alone(allocate, size) for size in (0, 200_000_000)]
    assert 150 < peaks[1] - peaks[0] < 300
    del held


def allocate(size):
    assert len(b"x" * size) == size
    return timing.peak_mb()


def figures(gpu="none", **changed):
    machine = {"CPU": "a CPU, 2 cores", "GPU": gpu}
    rows = [
        {"candidate": "ours", "seconds": 0.012345, "ratio": 0.5},
        {"candidate": "peer", "seconds": 1234.5},
        {"candidate": "ours, tf32", "seconds": "not measured"},
    ]
    tables = [{"title": "Everything", "rows": rows, "note": "Checked."}]
    about = {"section": "distances", "machine": machine, "date": "2026-01-02", "seconds": 3, "peak_mb": 4000}
    return about | {"quick": False, "tables": tables} | changed


def test_results_stand_side_by_side_with_their_machines_and_notes(tmp_path, monkeypatch):
    monkeypatch.setattr(module("distances"), "NOTES", ["Tried everything."])
    (tmp_path / "results").mkdir()
    for name, found in {"cpu": figures(), "nvidia-h100": figures("NVIDIA H100")}.items():
        (tmp_path / "results" / f"distances-{name}.json").write_text(json.dumps(found))
    report.render(tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.index("### On a CPU, 2 cores") < text.index("### On NVIDIA H100")
    assert "Measured on 2026-01-02 in 3 s, with a peak of 4,000 MB." in text
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]
    assert ["ours", "0.0123", "0.5"] in cells
    assert ["peer", "1,234", ""] in cells
    assert ["ours, tf32", "not measured", ""] in cells
    assert "Checked." in text
    assert "- Tried everything." in text
    assert text.count("Not measured.") == len(SECTIONS) - 1


def test_tiny_figures_are_marked(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/distances-cpu.json").write_text(json.dumps(figures(quick=True)))
    report.render(tmp_path)
    assert "Sizes of --quick: no figures." in (tmp_path / "RESULTS.md").read_text()


def test_every_section_says_what_it_measures_and_what_is_asked_for(tmp_path):
    (tmp_path / "results").mkdir()
    report.render(tmp_path)
    _, *parts = re.split(r"^## ", (tmp_path / "RESULTS.md").read_text(), flags=re.MULTILINE)
    for name, part in zip(SECTIONS, parts, strict=True):
        title, about, goal, *_ = part.split("\n\n")
        # Without a docstring, it has its name for a title and the goal in place of what is measured.
        assert title != name
        assert len(about.split()) > 10
        assert re.fullmatch(r"\*\*Goal\.\*\* .{10,}", goal), name


def run(*options):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--quick"], "--quick needs --out"), (["medoid"], "unknown sections: medoid; known: attacks")],
)
def test_what_is_asked_for_wrongly_is_refused(options, message):
    ran = run(*options)
    assert ran.returncode == 2
    assert message in ran.stderr


# Of these, one; the others take minutes.
@pytest.mark.parametrize(
    "name", [n if n == "distances" else pytest.param(n, marks=pytest.mark.slow) for n in SECTIONS]
)
def test_every_section_runs(name, monkeypatch):
    # In this process: importing torch in one of its own for each figure takes longer than the figure.
    monkeypatch.setattr(timing, "alone", lambda call, *arguments: call(*arguments))
    found = measured(name, quick=True)
    assert found["section"] == name
    assert found["machine"]["CPU"]
    assert found["tables"]
    for table in found["tables"]:
        assert table["rows"]
        assert f"**{table['title']}**" in report.tables(found)
    if name == "attacks":
        assert "Detour, bfloat16" in report.tables(found)


@pytest.mark.slow
def test_what_is_measured_is_printed_and_kept(tmp_path):
    ran = run("distances", "--quick", "--out", str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    (path,) = (tmp_path / "results").iterdir()
    found = json.loads(path.read_text())
    assert found["section"] == "distances"
    for text in (ran.stdout, (tmp_path / "RESULTS.md").read_text()):
        assert report.tables(found) in text


@pytest.mark.slow
def test_scales_are_compared_on_a_finished_run_and_what_is_known_is_not_trained_again(finished, tmp_path):
    command = [
        sys.executable, "-m", "benchmarks.scaling", "--out", str(tmp_path / "found.jsonl"), "--epochs", "1",
        "--seeds", "2", "--detectors", "mlp", "--scales", "raw", "layer", "--unseen", "step", "--jobs", "1",
        "--", str(finished.results),
    ]  # fmt: skip
    first, again = (
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first.count("of 8: ") == 8
    results = pd.read_json(tmp_path / "found.jsonl", lines=True)
    for protocol, rows in results.groupby("protocol"):
        by_scale = rows.groupby("scale")["auc"].mean()
        assert f"{protocol:<10} | mlp        | {by_scale['raw']:.3f} | {by_scale['layer']:.3f}" in again
    assert "of 8: " not in again


RUNS = {
    "of one detector": {"detectors": ["one"]},
    "of one protocol": {"protocols": ["unknown"]},
    "of transfer alone": {"protocols": ["transfer"]},
    "of one attack": {"attacks": ["a"], "protocols": ["known"]},
    "of noise alone": {"attacks": ["noise"], "protocols": ["known"], "detectors": ["one"]},
    "with other rates": {"fpr": [0.3, 0.25]},
    "of several seeds": {"seeds": [0, 1]},
    "with an attack on detectors": {"adaptive": True},
    "of before there were such columns": {"detectors": ["one"], "older": True},
}


@pytest.mark.parametrize("which", RUNS)
def test_there_are_tables_of_any_run(tmp_path, write_table, rng, which):
    asked = {"detectors": ["one", "two"], "attacks": ["a", "noise"], "protocols": ["known", "unknown", "transfer"],
             "seeds": [0], "fpr": [0.05], "adaptive": False, "older": False} | RUNS[which]  # fmt: skip
    sets = ["original", *asked["attacks"]]
    scores = pd.concat([
        pd.DataFrame({
            "detector": detector, "protocol": protocol, "seed": seed, "fold": fold, "case": case.name, "role": role,
            "set": name, "source": 20 * fold + np.arange(20), "adversarial": int(name != "original"),
            "score": rng.normal(size=20),
        })
        for detector in asked["detectors"] for protocol in asked["protocols"] for seed in asked["seeds"]
        for fold in range(2) for case in cases([protocol], {name: name for name in asked["attacks"]})
        for role, part in (("test", ["original", *case.tested]), ("validation", ["original"])) for name in part
    ])  # fmt: skip
    verdicts = pd.DataFrame({"set": np.repeat(sets, 40), "source": np.tile(range(40), len(sets))})
    verdicts[["right", "successful", "hit", "failed"]] = True
    found = metrics.evaluate(scores, verdicts, draws=100, fpr=asked["fpr"], base_rate=0.001, seed=0)
    for name, table in zip(("metrics", "summary"), found, strict=True):
        if asked["older"]:
            table = table.drop(columns=["difference", "difference_low", "difference_high"])
        write_table(name, table)
    if asked["adaptive"]:
        row = {"detector": "one", "method": "pgd", "fold": 0, "eps": 8, "share": 0.5, "low": 0.2, "high": 0.8}
        write_table("adaptive", pd.DataFrame([row]))
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/summary.tsv").write_text("s\th:m:s\n1.5\t0:00:01\n")
    written = "\n\n".join(tables.tables(tmp_path))
    assert ("AUC less one's" in written) == (len(asked["detectors"]) > 1)
    for protocol in ("known", "unknown"):
        assert (f"| AUC, {protocol}" in written) == (protocol in asked["protocols"])
    assert ("| AUC, unknown, successful" in written) == ("unknown" in asked["protocols"])
    assert ("| unknown, successful flagged at 5%" in written) == (
        "unknown" in asked["protocols"] and asked["fpr"] == [0.05]
    )
    assert ("one trained on" in written) == ("transfer" in asked["protocols"])
    assert ("known, threshold for 5%" in written) == (
        "known" in asked["protocols"] and asked["fpr"] == [0.05]
    )
    assert ("| one, pgd, fold 0 |" in written) == asked["adaptive"]
    # Of every detector a row with its interval, in the table of the means.
    means = written[written.index("| AUC, mean of the cells") :].split("\n\n")[0]
    assert [line.split()[1] for line in means.splitlines()[2:]] == asked["detectors"]
    assert "summary |" in written


def test_what_is_flagged_of_unseen_images_is_what_the_detector_says(finished, tmp_path):
    original = finished.results / "images/original.zarr.zip"
    pngs.export(original, original, tmp_path / "pngs")
    bundles = [finished.results / f"detectors/{name}/bundle" for name in ("lstm", "fisher")]
    written = unseen.table(tmp_path / "pngs", bundles, rates=(0.1, 0.3))
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in written.splitlines())
    assert head == ["100 images", "at 10%", "at 30%"]
    for bundle, together, alone, theory in zip(bundles, rows[::3], rows[1::3], rows[2::3], strict=True):
        detector = Detector.load(bundle)
        scores = detector.seen(tmp_path / "pngs").scores
        for column, rate in enumerate((0.1, 0.3), start=1):
            assert together[column].startswith(f"{detector(tmp_path / 'pngs', rate)['flagged'].mean():.1%} [")
            of_folds = [(detector.p_values(scores, fold) <= rate).mean() for fold in range(2)]
            assert alone[column] == f"{sum(of_folds) / 2:.1%}"
            assert theory[column] == f"{unseen.bound(rate, 50, 2):.1%}"


@pytest.mark.parametrize(("n", "folds", "expected"), [(50, 2, 0.2 + 1 / 26), (10, 10, 0.2)])
def test_the_bound_is_that_of_the_theorem(n, folds, expected):
    """Two folds of 25 have its first term added to twice the rate; folds of one image each have its second, which is 0."""
    assert unseen.bound(0.1, n, folds) == pytest.approx(expected)
