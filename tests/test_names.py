"""Names of attacks and detectors are text in every table, whatever else they look like: from the images to the report."""

import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

import stages
from benchmarks import reproducibility, tables
from conftest import ROOT
from detour import config, console, detectors, figures, folders, metrics, report, store, verdicts
from detour.spelling import shown
from detour.store import Made

pytestmark = pytest.mark.slow

NAMES = ["NA", "null", "08", "1e3", "True"]
SEEN = ["nan", "16", "inf"]
# What a page must not take for its own, and characters that it must not have.
LEFT_OUT = ["a/<b>&amp;$x^$ \u732b.png: broken", "a/\x01\x1b\n\ud800.png: broken"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of noise alone, by the functions of the stages; the folder of its tables."""
    folder, made = tmp_path_factory.mktemp("names") / "results" / "names", Made({}, "")
    folder.mkdir(parents=True)
    settings = config.load(
        {
            "run": "names",
            "dataset": {"name": "digits", "test": 60},
            "classifier": {"model": "small_resnet", "weights": "DIGITS", "layers": ["stem", "blocks.7"]},
            "attacks": [{"name": name, "method": "noise", "eps": 8, "family": name} for name in NAMES],
            "folds": {"count": 2},
            "protocols": ["known", "unknown", "transfer"],
            "detectors": [
                {"name": SEEN[0], "method": "mlp", "epochs": 1},
                {"name": SEEN[1], "method": "logistic", "c": [1]},
                {"name": SEEN[2], "method": "energy"},
            ],
            "metrics": {"draws": 100, "fpr": [0.3], "base_rate": 0.00001},
        },
    )
    made_of = stages.run(folder, settings.model_copy(update={"detectors": []}), [])
    scores, histories = [], []
    for entry in settings.detectors:
        for fold in range(2):
            of = folder / f"detectors/{entry.name}/{fold}"
            told = {"protocols": settings.protocols, "fold": fold, "seed": 0, "made": made}
            read = made_of.stores, made_of.folds, of / "model.pt"
            detectors.train(*read, of / "history.zarr.zip", options=entry, **told)
            detectors.evaluate(*read, of / "scores.zarr.zip", name=entry.name, **told)
            scores.append(of / "scores.zarr.zip")
            histories.append(of / "history.zarr.zip")
    path = {name: folder / f"{name}.zarr.zip" for name in ("scores", "histories", "metrics", "summary")}
    judged = {name: folder / f"{name}.zarr.zip" for name in ("verdicts", "outcomes")}
    verdicts.judge(made_of.images, made_of.stores.activations, **judged, made=made)
    metrics.summarise(
        scores, histories, judged["verdicts"], seed=0, made=made, **path, **settings.metrics.model_dump()
    )
    known, asked = {"scores": path["scores"], "metrics": path["metrics"]}, {"detectors": SEEN}
    images, activations = list(made_of.images.values()), list(made_of.stores.activations.values())
    reference, outcomes = folder / "reference/0.zarr.zip", judged["outcomes"]
    drawn = {
        "intervals": ({"summary": path["summary"]}, {}),
        "roc": (known, asked),
        "roc-attacks": (known, asked),
        "transfer": ({"metrics": path["metrics"]}, asked),
        "histories": ({"histories": path["histories"]}, {"detectors": SEEN[:1]}),
        "path": (
            {"distances": list(made_of.stores.distances.values()), "outcomes": outcomes},
            {"attack": "08"},
        ),
        "samples": (
            {"images": images, "activations": activations, "outcomes": outcomes},
            {"attack": None, "count": 2},
        ),
    }
    (folder / "figures").mkdir()
    # It takes seconds, and no table's names.
    (folder / "figures/tsne.svg").write_text("<svg><dc:title>tsne</dc:title></svg>")
    for name, (inputs, options) in drawn.items():
        where = folder / "figures" / name
        figures.draw(name, where.with_suffix(".svg"), where.with_suffix(".pdf"), inputs, **options)
    left_out = folder / "left-out.zarr.zip"
    with store.create(left_out, made, skipped=[shown(name) for name in LEFT_OUT], turned=[]):
        pass
    report.write(
        folder / "report.html", template=ROOT / "report/report.html",
        captions=list((ROOT / "report").glob("*.rst")), figures=list((folder / "figures").glob("*.svg")),
        images=images[0], references=[reference, left_out], verdicts=judged["verdicts"], outcomes=outcomes, scores=path["scores"], histories=path["histories"],
        metrics=path["metrics"], summary=path["summary"], run=settings, made={},
    )  # fmt: skip
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks/summary.tsv").write_text("s\th:m:s\n1.5\t0:00:01\n")
    return folder


def table(run: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(run / f"{name}.csv", dtype=str, keep_default_na=False)


def test_every_table_has_every_name(run):
    assert set(table(run, "scores")["set"]) == {"original", *NAMES}
    assert set(table(run, "scores")["detector"]) == set(SEEN)
    assert set(table(run, "scores")["case"]) == {"all", *NAMES}
    assert list(table(run, "outcomes")["set"]) == ["original", *NAMES]
    assert set(table(run, "verdicts")["set"]) == {"original", *NAMES}
    assert set(table(run, "histories")["detector"]) == set(SEEN)
    assert set(table(run, "metrics")["attack"]) == {"all", "original", *NAMES}
    assert set(table(run, "metrics")["detector"]) == set(SEEN)
    summary = table(run, "summary")
    assert set(summary["detector"]) == set(SEEN)
    for cell in summary["cell"]:
        assert set(cell.split(" > ")) <= {"mean", "all", *NAMES}


def test_every_attack_counts_in_all_of_them_together(run):
    """One that is read as nothing would be in no mean."""
    found = table(run, "metrics")
    found = found[
        (found["protocol"] == "known") & (found["population"] == "all") & (found["originals"] == "all")
    ]
    auc = found[(found["measure"] == "auc") & (found["detector"] == SEEN[1])].set_index("attack")["value"]
    assert list(auc.index) == ["all", *NAMES]
    assert float(auc["all"]) == pytest.approx(auc.drop("all").astype(float).mean())


def test_report_and_tables_show_every_name(run):
    page = (run / "report.html").read_text("utf-8")
    texts = "\n".join(tables.tables(run))
    for name in NAMES:
        assert f'<th scope="col">{name}</th>' in page
        assert f'<th scope="row">{name}</th>' in page
        assert re.search(rf"\| {name} *\|", texts)
    # Of the cases as they are written, too: 08 is not 8.
    assert re.findall(r"(?m)^\| (\S+)", texts[texts.index("| nan trained on") :])[1 : 1 + len(NAMES)] == NAMES
    for name in SEEN:
        assert f'<th scope="row">{name}</th><td>transfer</td>' in page


def test_what_compares_and_prints_runs_has_every_name(run, monkeypatch, capsys):
    assert list(reproducibility.headline(run).index.unique("detector")) == SEEN
    monkeypatch.chdir(run.parents[1])
    of_run = SimpleNamespace(run=run.name, dataset=SimpleNamespace(classes=range(10)))
    console.show_result(SimpleNamespace(run=of_run))
    printed = capsys.readouterr().out
    for name in SEEN:
        assert re.search(rf"(?m)^{name} +known +worst +({'|'.join(NAMES)}) ", printed)
    assert str(run / "report.html") in printed


def test_files_that_were_left_out_are_named_as_they_are_or_escaped(run):
    page = (run / "report.html").read_text("utf-8")
    assert "a/&lt;b&gt;&amp;amp;$x^$ \u732b.png: broken" in page
    assert r"a/\x01\x1b\n\ud800.png: broken" in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page)


def test_the_base_rate_is_the_one_that_was_asked_for(run):
    page = (run / "report.html").read_text("utf-8")
    assert "precision where 1 in 100,000 is adversarial" in page
    assert "where 1 in 100,000 images is adversarial" in page
    for other in ("99999", "99,999", "1,000 ", "base_rate}"):
        assert other not in page


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0.00001, "1 in 100,000"), (0.001, "1 in 1,000"), (0.003, "3 in 1,000"), (0.5, "1 in 2"), (1 / 3, None)],
)
def test_a_rate_is_said_exactly(rate, words):
    said = report.odds(rate)
    above, below = (int(number.replace(",", "")) for number in said.split(" in "))
    assert above / below == rate
    assert words in (None, said)


@pytest.mark.parametrize("path", ["/home/a/br{a}ce", "/home/{run}", "/home/a}b"])
def test_braces_in_the_path_of_the_project_are_told(path):
    with pytest.raises(ValueError, match=r"the project is at .*braces in a path for wildcards; move it"):
        folders.refuse_braces(path)
    folders.refuse_braces("/home/a b/(c)-[d]")
