import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager

from detour import figures, metrics
from detour.protocols import cases
from detour.tables import read


@pytest.fixture
def outcomes(write_table):
    def write(rows):
        table = pd.DataFrame(rows, columns=["set", "accuracy", "target_hits"])
        return write_table("outcomes", table.astype({"target_hits": float}))

    return write


def test_the_attack_shown_hits_most_targets_or_is_the_one_asked_for(outcomes):
    path = outcomes([("original", 0.9, None), ("a", 0.1, 0.3), ("b", 0.2, 0.8), ("noise", 0.05, None)])
    stores = [f"{name}.zarr.zip" for name in ("original", "a", "b")]
    assert figures.shown_attack(path, None, stores) == "b"
    assert figures.shown_attack(path, "a", stores) == "a"
    path = outcomes(
        [("original", 0.9, None), ("weak", 0.8, None), ("strong", 0.2, None), ("control", 0.1, None)]
    )
    stores = [f"{name}.zarr.zip" for name in ("original", "weak", "strong")]
    assert figures.shown_attack(path, None, stores) == "strong"


@pytest.fixture
def stores(rng, write_store, outcomes):
    """Twelve images of three classes, of which an attack fools all or none."""

    def write(fooled: bool, classes=("ant", "bee", "cat"), *, still=False):
        label = np.arange(12) % 3
        layers = ["first", "second"]
        common = {"layers": layers, "classes": list(classes)}
        paths = {}
        for name in ("original", "attack"):
            wrong = fooled and name == "attack"
            predicted = (label + 1) % 3 if wrong else label
            images = rng.integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)
            x = {layer: rng.normal(size=(12, 6)).astype(np.float32) * (not still) for layer in layers}
            d = np.full((12, 2, 3), 2, np.float32) * (not still)
            d[np.arange(12), :, label] = 1 - still
            if wrong:
                # The detour: the last layer is near the wrong class and far from the true one.
                d[np.arange(12), 1, label], d[np.arange(12), 1, predicted] = 3, 0.5
            known = {"label": label, "predicted": predicted}
            paths[name] = {
                "images": write_store(
                    f"images/{name}", {"images": images, "label": label, "target": predicted}, **common
                ),
                "activations": write_store(f"activations/{name}", x | known, **common),
                "distances": write_store(f"distances/{name}", {"distances": d} | known, **common),
            }
        x = {layer: rng.normal(size=(60, 6)).astype(np.float32) * (not still) for layer in layers}
        reference = write_store("reference/0", x | {"label": np.sort(np.arange(60) % 3)})
        table = outcomes([("original", 1.0, None), ("attack", 0.0 if fooled else 1.0, float(fooled))])
        stage = {key: [paths[name][key] for name in paths] for key in ("images", "activations", "distances")}
        return {
            "path": ({"distances": stage["distances"], "outcomes": table}, {"attack": None}),
            "tsne": (
                {
                    "images": stage["images"][0],
                    "activations": stage["activations"],
                    "references": [reference],
                    "outcomes": table,
                },
                {"attack": None, "size": 10, "seed": 0},
            ),
            "samples": (
                {"images": stage["images"], "activations": stage["activations"], "outcomes": table},
                {"attack": None, "count": 3},
            ),
        }

    return write


def texts(svg: Path) -> str:
    """The text of an SVG."""
    return " ".join(ET.parse(svg).getroot().itertext())


@pytest.mark.parametrize("name", ["path", "tsne", "samples"])
def test_a_figure_is_the_same_bytes_twice(stores, tmp_path, name):
    inputs, told = stores(fooled=True)[name]
    for i in range(2):
        figures.draw(name, tmp_path / f"{i}.svg", tmp_path / f"{i}.pdf", inputs, **told)
    assert (tmp_path / "0.svg").read_bytes() == (tmp_path / "1.svg").read_bytes()
    assert (tmp_path / "0.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("name", "message"),
    [("path", "attack fooled the classifier on no image"), ("tsne", "attack led no image to a class")],
)
def test_a_figure_says_that_nobody_was_fooled(stores, tmp_path, name, message):
    inputs, told = stores(fooled=False)[name]
    figures.draw(name, tmp_path / "a.svg", tmp_path / "a.pdf", inputs, **told)
    assert message in texts(tmp_path / "a.svg")


def test_the_path_crosses_where_the_distances_do(stores):
    inputs, told = stores(fooled=True)["path"]
    figure = figures.layer_path(**inputs, **told).figure
    before, after = ({line.get_label(): line.get_ydata() for line in axes.lines} for axes in figure.axes)
    true, taken = "to the true class", "to the class it is taken for after the attack"
    np.testing.assert_allclose(before[true], [1, 1])
    np.testing.assert_allclose(before[taken], [2, 2])
    np.testing.assert_allclose(after[true], [1, 3])
    np.testing.assert_allclose(after[taken], [2, 0.5])


@pytest.fixture
def tables(write_table, rng) -> dict[str, Path]:
    return tables_of(write_table, rng, ("one", "two"), ("a", "b"))


def tables_of(write_table, rng, detectors, attacks) -> dict[str, Path]:
    """Scores of detectors under two protocols, and what they amount to."""
    sets = ["original", *attacks]
    scores = pd.concat([
        pd.DataFrame({
            "detector": detector, "protocol": protocol, "seed": 0, "fold": fold, "case": case.name,
            "role": role, "set": name, "source": 20 * fold + np.arange(20),
            "adversarial": int(name != "original"), "score": rng.normal(size=20),
        })
        for detector in detectors
        for protocol in ("known", "transfer")
        for fold in range(2)
        for case in cases([protocol], dict(zip(attacks, attacks, strict=True)))
        for role, part in (("test", sets), ("validation", ["original"]))
        for name in part
    ])  # fmt: skip
    verdicts = pd.DataFrame({"set": np.repeat(sets, 40), "source": np.tile(range(40), len(sets))})
    verdicts[["right", "successful", "hit", "failed"]] = True
    found = metrics.evaluate(scores, verdicts, draws=100, fpr=[0.05], base_rate=0.001, seed=0)
    names = "scores", "metrics", "summary"
    return {name: write_table(name, table) for name, table in zip(names, (scores, *found), strict=True)}


def test_roc_draws_the_detectors_asked_for_with_their_auc(tables):
    paths = tables["scores"], tables["metrics"]
    values = read(tables["metrics"])
    values = values[
        (values["protocol"] == "known") & (values["measure"] == "auc") & (values["attack"] == "all")
    ]
    values = values[(values["population"] == "all") & (values["originals"] == "all")].set_index("detector")
    legend = figures.roc(*paths, detectors=["one", "two"]).figure.axes[0].get_legend()
    assert [text.get_text().split()[:2] for text in legend.get_texts()] == [
        [name, f"{values.loc[name, 'value']:.3f}"] for name in ("one", "two")
    ]
    panels = figures.roc_attacks(*paths, detectors=["two"]).figure.axes
    assert [axes.get_title() for axes in panels] == ["a", "b"]
    assert all(len(axes.get_legend().get_texts()) == 1 for axes in panels)


def test_transfer_shows_the_matrix_of_each_detector(tables):
    figure = figures.transfer(tables["metrics"], detectors=["two", "one"]).figure
    table = read(tables["metrics"])
    for axes, name in zip(figure.axes, ["two", "one"], strict=False):
        assert axes.get_title() == name
        found = axes.images[0].get_array()
        for i, case in enumerate("ab"):
            for j, attack in enumerate("ab"):
                rows = table[(table["protocol"] == "transfer") & (table["detector"] == name)]
                rows = rows[
                    (rows["case"] == case) & (rows["attack"] == attack) & (rows["population"] == "all")
                ]
                assert found[i, j] == pytest.approx(rows["value"].item())


def test_strengths_are_shares_fooled_and_flagged_at_each_budget(tables, write_table):
    done = {"original": np.nan, "a": 0.25, "b": 0.75}
    outcomes = write_table("outcomes", pd.DataFrame({"set": done.keys(), "successful": done.values()}))
    figure = figures.strengths(
        tables["metrics"], outcomes, groups=[[("b", 2), ("a", 4)]], detectors=["two", "one"], fpr=0.05
    ).figure
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "4"]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [0.75, 0.25])
    table = read(tables["metrics"])
    table = table[
        (table["protocol"] == "known") & (table["measure"] == "tpr@0.05") & (table["originals"] == "all")
    ]
    table = table[table["population"] == "all"].set_index(["detector", "attack"])["value"]
    for name, drawn in zip(("two", "one"), axes.containers, strict=True):
        np.testing.assert_allclose(drawn.lines[0].get_ydata().astype(float), table.loc[name].loc[["b", "a"]])


def test_intervals_are_those_of_the_summary(tables):
    figure = figures.intervals(tables["summary"]).figure
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["one", "two"]
    table = read(tables["summary"])
    drawn = np.concatenate([found.lines[0].get_xdata() for found in figure.axes[0].containers])
    expected = table[table["population"] == "all"]["value"]
    np.testing.assert_allclose(np.sort(drawn.astype(float)), np.sort(expected))


def test_histories_are_the_means_of_each_case_with_what_guessing_gives(write_table, rng):
    rows = [
        {"detector": name, "protocol": "known", "case": case, "seed": 0, "fold": fold, "epoch": epoch,
         "loss": rng.random(), "guessed_loss": 0.5, "validation_auc": rng.random(), "guessed_auc": 0.6}
        for name in ("one", "two") for case in ("all", "NA") for fold in range(3) for epoch in (1, 2, 3)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    figure = figures.histories(write_table("histories", table), detectors=["two", "one"]).figure
    for row, value in enumerate(("loss", "validation_auc")):
        for column, name in enumerate(("two", "one")):
            axes = figure.axes[2 * row + column]
            drawn = [line for line in axes.lines if line.get_label().startswith("known")]
            assert [line.get_label() for line in drawn] == ["known: all", "known: NA"]
            for line, case in zip(drawn, ("all", "NA"), strict=True):
                found = table[(table["detector"] == name) & (table["case"] == case)]
                np.testing.assert_allclose(line.get_ydata(), found.groupby("epoch")[value].mean())
            assert {line.get_ydata()[0] for line in axes.lines if line not in drawn} == {(0.5, 0.6)[row]}


# Names of folders, which are names of classes, and what stands in a figure, whatever fonts this machine has.
NAMES = {
    "$x^$": "$x^$",
    "$0 5% note": "$0 5% note",
    r"\frac{a}_b^c & #1~": r"\frac{a}_b^c & #1~",
    "<b>bold</b>": "<b>bold</b>",
    "-- a --> comment": "-- a --> comment",
    "\u732b": "\u732b",
    "\u6a58\u732b\u5728\u7a97\u53f0\u4e0a": "\u6a58\u732b\u5728\u7a97\u53f0\u4e0a",
    "\u0642\u0637\u0629": "\u0642\u0637\u0629",
    "\U0001f996": "\U0001f996",
    "a\nb\x01\x1b": r"a\nb\x01\x1b",
    "\udcff.png": r"\udcff.png",
    "": "",
}


def drawn(name: str, tmp_path: Path, inputs, **told) -> list[str]:
    """Draw a figure into both of its files; the texts that are in it."""
    with warnings.catch_warnings(action="error", category=UserWarning):
        figures.draw(name, tmp_path / "a.svg", tmp_path / "a.pdf", inputs, **told)
    page = (tmp_path / "a.pdf").read_bytes()
    assert page.startswith(b"%PDF")
    assert page.rstrip().endswith(b"%%EOF")
    assert len(pd.read_csv(tmp_path / "a.csv")), "the data"
    root = ET.parse(tmp_path / "a.svg").getroot()
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("figure", ["tsne", "samples"])
def test_a_class_is_named_as_it_is_or_escaped(stores, tmp_path, figure, name):
    """Neither read as a formula, which may be no formula, nor drawn as boxes, nor in a file that is no XML."""
    inputs, told = stores(fooled=True, classes=[name, "bee", "cat"])[figure]
    texts = " ".join(drawn(figure, tmp_path, inputs, **told)).replace("- -", "--")
    for word in NAMES[name].split():
        assert word in texts


def test_a_font_that_has_the_character_draws_it(tmp_path, monkeypatch, stores):
    """Made here, of one square that is the character for a cat: this machine may have none."""
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord("\u732b"): "cat"})
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for point in ((100, 800), (900, 800), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    glyph = pen.glyph()
    builder.setupGlyf({".notdef": glyph, "cat": glyph})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "cat": (1000, 100)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Cats", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "cats.ttf")
    monkeypatch.setattr(fontManager, "ttflist", [*fontManager.ttflist])
    fontManager.addfont(tmp_path / "cats.ttf")
    inputs, told = stores(fooled=True, classes=["\u732b", "bee", "cat"])["samples"]
    assert "\u732b" in " ".join(drawn("samples", tmp_path, inputs, **told))
    # And only there: the next figure begins with ours again.
    assert mpl.rcParams["font.family"] == ["sans-serif"]


ODD = ["$x^$", "$0 5% note"], [r"a\b_c^{", "<b> & #"]


@pytest.mark.parametrize("figure", ["intervals", "roc", "roc-attacks", "transfer", "histories", "adaptive"])
def test_detectors_and_attacks_are_named_as_they_are(tmp_path, rng, write_store, write_table, figure):
    detectors, attacks = ODD
    paths = tables_of(write_table, rng, detectors, attacks)
    rows = [
        {"detector": name, "protocol": "unknown", "case": case, "seed": 0, "fold": 0, "epoch": epoch,
         "loss": rng.random(), "guessed_loss": 0.5, "validation_auc": rng.random(), "guessed_auc": 0.6}
        for name in detectors for case in attacks for epoch in (1, 2)
    ]  # fmt: skip
    histories = write_table("histories", pd.DataFrame(rows))
    evaded = {
        "fold": 0,
        "images": 4,
        "succeeded": 3,
        "flagged": 1,
        "evaded": 2,
        "share": 0.5,
        "low": 0,
        "high": 1,
    }
    table = [{"detector": n, "method": "pgd", "eps": eps} | evaded for n in detectors for eps in (0, 8)]
    evasion = write_table("adaptive", pd.DataFrame(table))
    losses = {"eps": np.array([0, 8]), "classification": np.ones((2, 3)), "detection": np.ones((2, 3))}
    about = {"method": "pgd", "threshold": 0.5}
    adapted = [write_store(f"adapted-{i}", losses, detector=n, **about) for i, n in enumerate(detectors)]
    known = {"scores": paths["scores"], "metrics": paths["metrics"]}
    asked = {"detectors": detectors}
    inputs, told, expected = {
        "intervals": ({"summary": paths["summary"]}, {}, detectors),
        "roc": (known, asked, detectors),
        "roc-attacks": (known, asked, [*detectors, *attacks]),
        "transfer": ({"metrics": paths["metrics"]}, asked, [*detectors, *attacks]),
        "histories": ({"histories": histories}, asked, [*detectors, *attacks]),
        "adaptive": ({"table": evasion, "adapted": adapted}, {}, detectors),
    }[figure]
    texts = " ".join(drawn(figure, tmp_path, inputs, **told))
    for name in expected:
        assert name in texts


@pytest.mark.parametrize("name", ["path", "tsne", "samples"])
def test_what_never_varies_is_drawn_all_the_same(stores, tmp_path, name):
    """No distance in the reference and none to the medoids: there is no unit, and no principal component."""
    inputs, told = stores(fooled=True, still=True)[name]
    with warnings.catch_warnings(action="error", category=RuntimeWarning):
        assert drawn(name, tmp_path, inputs, **told)
