import copy
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from conftest import ROOT, SMALL
from detour import calibrated, config, metrics, report, tables


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.raw = text
        self.sources, self.links, self.ids, self.text, self.open = [], [], set(), "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.sources += [found[key] for key in ("src", "srcset", "data") if key in found]
        self.links += [found["href"]] if "href" in found else []
        self.ids |= {found["id"]} if "id" in found else set()

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="session")
def page(finished):
    return Page((finished.results / "report.html").read_text())


def test_page_needs_no_network(page):
    assert len(page.sources) == 10
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids


def test_links_to_data_are_of_files_beside_the_page(page, finished):
    files = {link for link in page.links if not link.startswith("#")}
    assert {f"{name}.csv" for name in ("summary", "metrics", "scores", "outcomes", "verdicts")} <= files
    drawn = [path.stem for path in (finished.results / "figures").glob("*.svg")]
    assert {f"figures/{name}.{ending}" for name in drawn for ending in ("svg", "pdf", "csv")} <= files
    for name in files:
        assert (finished.results / name).stat().st_size, name


def test_numbers_are_those_of_the_tables(page, finished):
    text = re.sub(r"\s+", " ", page.text)
    for row in finished.table("summary").itertuples():
        assert f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" in text
    for row in finished.table("metrics").dropna(subset="value").itertuples():
        shown = row.attack == "all" or (row.population, row.originals) == ("all", "all")
        if row.measure == "auc" and shown:
            assert f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" in text
    for row in finished.table("outcomes").itertuples():
        assert f"{100 * row.accuracy:.1f} %" in text


def test_page_says_how_it_was_made(page):
    of_its_start = ("snakemake --configfile run.yaml", " UTC", " cores, ", "(h:mm:ss) of ")
    for text in ("scikit-learn", "cleverhans 4.0.0", "step: 16", "Exploiting CNN layer", *of_its_start):
        assert text in page.text


def written(finished, folder, **changed) -> str:
    """The text of the page of the finished run, with other stores in place of some of its own."""

    results = finished.results
    stores = {
        name: results / f"{name}.zarr.zip"
        for name in ("verdicts", "outcomes", "scores", "histories", "metrics", "summary")
    }
    report.write(
        folder / "page.html", template=ROOT / "report/report.html", captions=list((ROOT / "report").glob("*.rst")),
        figures=list((results / "figures").glob("*.svg")), made={},
        **stores | {"run": config.load(SMALL)} | changed,
    )  # fmt: skip
    return re.sub(r"\s+", " ", Page((folder / "page.html").read_text()).text)


@pytest.fixture
def images(write_store) -> dict:
    """The stores of images of a page, of which nothing is to be said."""
    one = {"x": np.zeros(1)}
    return {
        "images": write_store("original", one, classes=["a", "b"], copies=[], turned=[]),
        "references": [write_store("0", one, skipped=[], turned=[])],
    }


def test_columns_have_different_names(page):
    """Two of one name were told apart by nothing."""
    headed = [
        re.findall(r"<th scope=.col.>(.*?)</th>", row)
        for row in re.findall(r"<tr>(?:<th scope=.col.>.*?</th>)+\s*</tr>", page.raw)
    ]
    assert len(headed) >= 5
    for names in headed:
        assert len(names) == len(set(names)), names


def test_no_table_is_of_a_threshold_that_the_validation_cannot_set(page, finished):
    """25 originals in a fold set one for 5 %, and none for 1 %."""
    text = re.sub(r"\s+", " ", page.text)
    found = finished.table("metrics").set_index("measure")["value"]
    assert found["fpr@0.01"].isna().all()
    assert found["fpr@0.05"].notna().all()
    assert "threshold for 5%" in text
    assert "threshold for 1%" not in text
    assert (
        "No threshold for 1 % false positives: it needs 99 validation originals in a fold, or in all" in text
    )


def test_few_images_are_counted_where_their_figures_stand(finished, images, write_table, tmp_path):
    few = metrics.FEW
    table = tables.read(finished.results / "summary.zarr.zip").assign(images=few, low=0.1, high=0.9)
    first = (table["population"] == "successful") & (table["measure"] == "worst")
    for count, said in ((few - 1, True), (few, False)):
        table.loc[first, ["value", "low", "high", "images"]] = [0.75, 0.75, 0.75, count]
        text = written(finished, tmp_path, **images, summary=write_table("summary", table))
        assert ("0.750 [0.750, 0.750]" + f" n = {count}" * said) in text
        assert (f"n = {count}" in text) == said
        assert ("intervals without width, which does not make them certain" in text) == said


def test_a_precision_without_a_false_positive_is_at_least_its_lower_end(
    finished, images, write_table, tmp_path
):
    table = tables.read(finished.results / "metrics.zarr.zip").assign(images=100)
    table.loc[table["measure"] == "fpr@0.05", ["value", "low", "high"]] = [0.0, 0.0, 0.037]
    table.loc[table["measure"] == "precision@0.05", ["value", "low", "high"]] = [1.0, 0.026, 1.0]
    text = written(finished, tmp_path, **images, metrics=write_table("metrics", table))
    assert "at least 2.6 % no false positive was seen" in text
    assert "0.0 % [0.0, 3.7]" in text
    assert "100.0 % [2.6, 100.0]" not in text


def test_what_was_seen_of_the_images_is_said_at_the_top(finished, write_store, tmp_path):
    one = {"x": np.zeros(1)}
    original = write_store(
        "original", one, classes=["a", "b"], copies=["a/1.png = a/0.png"], turned=["a/2.jpg"]
    )
    skipped = ["r/<b>\\xff.png: cannot be decoded"]
    reference = write_store("0", one, skipped=skipped, turned=["b/0.jpg", "b/1.jpg"])
    text = written(finished, tmp_path, images=original, references=[reference], notes=["one pair is in both"])
    for said in (
        "one pair is in both.",
        "1 image is a copy of another, with which it shares its folds: a/1.png = a/0.png.",
        "3 images have an EXIF orientation, which is not followed",
        "a/2.jpg, b/0.jpg, b/1.jpg.",
        "1 reference image could not be decoded",
        "r/<b>\\xff.png: cannot be decoded",
    ):
        assert said in text


@pytest.mark.parametrize("change", ["swapped", "cut", "empty"])
def test_a_figure_that_is_another_or_not_whole_is_refused(tmp_path, finished, change):
    roc = (finished.results / "figures/roc.svg").read_bytes()
    other = (finished.results / "figures/tsne.svg").read_bytes()
    path = tmp_path / "roc.svg"
    path.write_bytes({"swapped": other, "cut": roc[:-100], "empty": b""}[change])
    with pytest.raises(ValueError, match="roc.svg: is cut, or another figure than roc; delete it"):
        report._embedded(path)


def test_captions_and_tables_speak_of_what_the_run_has(finished, images, write_table, tmp_path):
    whole = written(finished, tmp_path, **images)
    for text in (
        "transfer: only one attack is in training",
        "Noise is a control",
        "classified as the attack's target",
    ):
        assert text in whole
    assert "in less than float32" not in whole
    lean = copy.deepcopy(SMALL) | {"protocols": ["known"], "adaptive": {"methods": []}}
    lean["attacks"], lean["detectors"] = lean["attacks"][:1], lean["detectors"][:1]
    outcomes = tables.read(finished.results / "outcomes.zarr.zip")
    outcomes = outcomes[outcomes["set"] != "noise"].assign(target_hits=np.nan)
    found = {name: tables.read(finished.results / f"{name}.zarr.zip") for name in ("metrics", "summary")}
    kept = {
        name: write_table(name, table[(table["detector"] == "lstm") & (table["protocol"] == "known")])
        for name, table in found.items()
    }
    text = written(
        finished,
        tmp_path,
        run=config.load(lean),
        outcomes=write_table("outcomes", outcomes),
        **images,
        **kept,
    )
    for absent in (
        "transfer: only",
        "unknown: the attack",
        "oise is a control",
        "Noise and attacks",
        "attack's target",
        "difference from the first detector",
    ):
        assert absent not in text
    assert "1 attack, 2 folds" in text


def test_a_rate_that_no_fold_can_promise_has_a_threshold_of_all_folds_together(finished, images, tmp_path):
    """2 % needs 49 validation originals: a fold has 25, two have 50."""
    settings = copy.deepcopy(SMALL) | {"metrics": {"fpr": [0.02, 0.05]}}
    run = config.load(settings)
    table = tables.read(finished.results / "metrics.zarr.zip")
    text = written(finished, tmp_path, run=run, **images)
    assert "threshold for 2%" in text
    assert "For 2 % false positives, a fold has too few validation originals: it needs 49" in text
    verdicts, scores = (tables.read(finished.results / f"{name}.zarr.zip") for name in ("verdicts", "scores"))
    assert calibrated.lacking(table, [0.02, 0.05]) == [0.02]
    found = calibrated.flagged(scores, verdicts, [0.01, 0.02], 0.001).set_index(
        ["detector", "measure", "attack", "population"]
    )
    assert set(found.index.unique("measure")) == {"fpr@0.02", "tpr@0.02", "precision@0.02"}
    known = scores[scores["protocol"] == "known"]
    for name in ("lstm", "fisher"):
        of = known[known["detector"] == name]
        shares = {"original": [], "step": []}
        for _, one in of.groupby("seed"):
            # Of 50, ceil(51 * 0.98) = 50: the highest.
            limit = one["score"][one["role"] == "validation"].max()
            for of_set, counted in shares.items():
                rows = one[(one["role"] == "test") & (one["set"] == of_set)]
                counted += list(rows["score"] > limit)
        assert found.loc[(name, "fpr@0.02", "original", "all"), "value"] == pytest.approx(
            np.mean(shares["original"])
        )
        row = found.loc[(name, "tpr@0.02", "step", "all")]
        assert row["value"] == pytest.approx(np.mean(shares["step"]))
        assert row["low"] <= row["value"] <= row["high"]
        assert row["images"] == 50
