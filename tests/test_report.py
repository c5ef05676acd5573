import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT, SMALL
from detour import config, report


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
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
    assert len(page.sources) == 9
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= page.ids


def test_numbers_are_those_of_the_tables(page, finished):
    text = re.sub(r"\s+", " ", page.text)
    for row in pd.read_csv(finished.results / "summary.csv").itertuples():
        assert f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" in text
    for row in pd.read_csv(finished.results / "metrics.csv").dropna(subset="value").itertuples():
        shown = row.attack == "all" or (row.population, row.originals) == ("all", "all")
        if row.measure == "auc" and shown:
            assert f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" in text
    for row in pd.read_csv(finished.results / "outcomes.csv").itertuples():
        assert f"{100 * row.accuracy:.1f} %" in text


def test_page_says_how_it_was_made(page):
    for text in ("scikit-learn", "cleverhans 4.0.0", "step: 16", "Exploiting CNN layer"):
        assert text in page.text


def test_what_was_seen_of_the_images_is_said_at_the_top(finished, write_store, tmp_path):
    one = {"x": np.zeros(1)}
    original = write_store(
        "original", one, classes=["a", "b"], copies=["a/1.png = a/0.png"], turned=["a/2.jpg"]
    )
    skipped = ["r/<b>\\xff.png: cannot be decoded"]
    reference = write_store("0", one, skipped=skipped, turned=["b/0.jpg", "b/1.jpg"])
    tables = {
        name: finished.results / f"{name}.zarr.zip"
        for name in ("verdicts", "outcomes", "histories", "metrics", "summary")
    }
    schema = json.loads((ROOT / "schemas/config.schema.json").read_text())
    report.write(
        tmp_path / "page.html", template=ROOT / "report/report.html", captions=list((ROOT / "report").glob("*.rst")),
        figures=list((finished.results / "figures").glob("*.svg")), images=original, references=[reference],
        config=config.load(SMALL, schema), notes=["one pair is in both"], **tables,
    )  # fmt: skip
    text = Page((tmp_path / "page.html").read_text()).text
    for said in (
        "one pair is in both.",
        "1 image is a copy of another, with which it shares its folds: a/1.png = a/0.png.",
        "3 images have an EXIF orientation, which is not followed",
        "a/2.jpg, b/0.jpg, b/1.jpg.",
        "1 reference image could not be decoded",
        "r/<b>\\xff.png: cannot be decoded",
    ):
        assert said in text
