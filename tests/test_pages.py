"""Pages in a browser, of which Chromium must be there: on a phone, a tablet and a desk, light, dark and printed."""

import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from detour import compared

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is missing: apt-get install chromium"),
]

# The report in every way; the comparison in some, as it shares its style.
WAYS = [
    *(("report", width, look) for width in (390, 800, 1280) for look in ("light", "dark", "print")),
    *(("comparison", 390, "light"), ("comparison", 1280, "dark"), ("comparison", 800, "print")),
]

# What is wider than the screen, but for what scrolls by itself.
WIDER = """() => [...document.querySelectorAll("body *")]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5 && !e.closest(SCROLLS))
  .map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not run as root.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(finished, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("compared")
    shutil.copytree(
        finished.results, folder / "other", ignore=shutil.ignore_patterns("activations", "detectors")
    )
    paths = compared.compare([finished.results, folder / "other"], folder)
    return {"report": finished.results / "report.html", "comparison": paths[0]}


@pytest.fixture
def opened(browser, pages):
    """Open a page at a width: `opened(name, width, look)`; at the end, that it said and asked nothing."""
    said, closing = [], []

    def open_page(name: str, width: int, look: str):
        scheme = "dark" if look == "dark" else "light"
        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        closing.append(context)
        page = context.new_page()
        if look == "print":
            page.emulate_media(media="print")
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        address = pages[name].as_uri()
        page.on("request", lambda asked: asked.url.startswith(("data:", address)) or said.append(asked.url))
        page.goto(address)
        return page

    yield open_page
    for context in closing:
        context.close()
    assert said == []


@pytest.mark.parametrize(("name", "width", "look"), WAYS)
def test_nothing_is_wider_than_the_screen_nor_said_nor_asked(opened, name, width, look):
    page = opened(name, width, look)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Paper scrolls nothing; and no paper is as narrow as a phone.
    scrolls = "nothing" if look == "print" and width > 390 else ".scroll, pre"
    assert page.evaluate(WIDER.replace("SCROLLS", f'"{scrolls}"')) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 25, 30)"
    assert dark == (look == "dark")


def test_what_is_folded_is_printed(opened):
    page = opened("report", 800, "print")
    for folded in page.locator("details").all():
        content = folded.locator("pre, table").first
        assert content.bounding_box()["height"] > 20
        assert content.evaluate("e => e.checkVisibility({contentVisibilityAuto: true})")
    assert not page.locator("nav").is_visible()


def test_a_figure_opens_large_and_closes_again(opened):
    page = opened("report", 390, "light")
    figure = page.locator("figure button").first
    before = figure.locator("img").bounding_box()["width"]
    assert before <= 390
    figure.press("Enter")
    assert figure.locator("img").bounding_box()["width"] >= 2 * before
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Escape")
    assert figure.locator("img").bounding_box()["width"] == before


def test_words_for_who_does_not_see(opened):
    page = opened("report", 800, "light")
    captions = page.locator("figcaption").all_inner_texts()
    alts = [image.get_attribute("alt") for image in page.locator("figure img").all()]
    assert len(set(alts)) == len(alts) == len(captions)
    for alt, caption in zip(alts, captions, strict=True):
        assert 10 < len(alt) < 120
        assert alt not in caption
    assert page.locator("th:not([scope])").count() == 0
    gaps = page.locator("nav a").evaluate_all("all => all.map(a => a.getBoundingClientRect().toJSON())")
    for one, other in pairwise(gaps):
        assert other["top"] > one["top"] or other["left"] - one["right"] >= 8


def test_rows_of_compared_runs_are_sorted_by_a_click_and_filtered_by_words(opened):
    page = opened("comparison", 1280, "light")
    table = page.locator("table").last
    column = table.locator("th").all_inner_texts().index("AUC")

    def areas() -> list[float]:
        cells = [row.locator("td").nth(column) for row in table.locator("tbody tr:visible").all()]
        return [float(cell.get_attribute("data-key")) for cell in cells]

    everything = areas()
    head = table.locator("th").nth(column)
    head.click()
    assert areas() == sorted(everything) != everything
    head.click()
    assert areas() == sorted(everything, reverse=True)
    page.get_by_role("searchbox").fill("KNN unknown")
    found = [row.inner_text() for row in table.locator("tbody tr:visible").all()]
    assert found
    assert all("knn" in text and "unknown" in text for text in found)
    assert len(found) < len(everything)
