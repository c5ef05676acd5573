import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

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
    assert figures.shown_attack(path, None) == "b"
    assert figures.shown_attack(path, "a") == "a"
    path = outcomes([("original", 0.9, None), ("weak", 0.8, None), ("strong", 0.2, None)])
    assert figures.shown_attack(path, None) == "strong"


@pytest.fixture
def stores(rng, write_store, outcomes):
    """Twelve images of three classes, of which an attack fools all or none."""

    def write(fooled: bool):
        label = np.arange(12) % 3
        layers = ["first", "second"]
        common = {"layers": layers, "classes": ["ant", "bee", "cat"]}
        paths = {}
        for name in ("original", "attack"):
            wrong = fooled and name == "attack"
            predicted = (label + 1) % 3 if wrong else label
            images = rng.integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)
            x = {layer: rng.normal(size=(12, 6)).astype(np.float32) for layer in layers}
            d = np.full((12, 2, 3), 2, np.float32)
            d[np.arange(12), :, label] = 1
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
        x = {layer: rng.normal(size=(60, 6)).astype(np.float32) for layer in layers}
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
    """The comments in which matplotlib keeps the text that it draws as shapes."""
    ET.parse(svg)
    return svg.read_text()


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
    figure = figures.layer_path(**inputs, **told)
    before, after = ({line.get_label(): line.get_ydata() for line in axes.lines} for axes in figure.axes)
    true, taken = "to the true class", "to the class it is taken for after the attack"
    np.testing.assert_allclose(before[true], [1, 1])
    np.testing.assert_allclose(before[taken], [2, 2])
    np.testing.assert_allclose(after[true], [1, 3])
    np.testing.assert_allclose(after[taken], [2, 0.5])


@pytest.fixture
def tables(write_table, rng) -> dict[str, Path]:
    """Scores of two detectors under two protocols, and what they amount to."""
    scores = pd.concat([
        pd.DataFrame({
            "detector": detector, "protocol": protocol, "seed": 0, "fold": fold, "case": case.name,
            "role": role, "set": name, "source": 20 * fold + np.arange(20),
            "adversarial": int(name != "original"), "score": rng.normal(size=20),
        })
        for detector in ("one", "two")
        for protocol in ("known", "transfer")
        for fold in range(2)
        for case in cases([protocol], ["a", "b"])
        for role, sets in (("test", ["original", "a", "b"]), ("validation", ["original"]))
        for name in sets
    ])  # fmt: skip
    verdicts = pd.DataFrame({"set": np.repeat(["original", "a", "b"], 40), "source": np.tile(range(40), 3)})
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
    legend = figures.roc(*paths, detectors=["one", "two"]).axes[0].get_legend()
    assert [text.get_text().split()[:2] for text in legend.get_texts()] == [
        [name, f"{values.loc[name, 'value']:.3f}"] for name in ("one", "two")
    ]
    panels = figures.roc_attacks(*paths, detectors=["two"]).axes
    assert [axes.get_title() for axes in panels] == ["a", "b"]
    assert all(len(axes.get_legend().get_texts()) == 1 for axes in panels)


def test_transfer_shows_the_matrix_of_each_detector(tables):
    figure = figures.transfer(tables["metrics"], detectors=["two", "one"])
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


def test_intervals_are_those_of_the_summary(tables):
    figure = figures.intervals(tables["summary"])
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
    figure = figures.histories(write_table("histories", table), detectors=["two", "one"])
    for row, value in enumerate(("loss", "validation_auc")):
        for column, name in enumerate(("two", "one")):
            axes = figure.axes[2 * row + column]
            drawn = [line for line in axes.lines if line.get_label().startswith("known")]
            assert [line.get_label() for line in drawn] == ["known: all", "known: NA"]
            for line, case in zip(drawn, ("all", "NA"), strict=True):
                found = table[(table["detector"] == name) & (table["case"] == case)]
                np.testing.assert_allclose(line.get_ydata(), found.groupby("epoch")[value].mean())
            assert {line.get_ydata()[0] for line in axes.lines if line not in drawn} == {(0.5, 0.6)[row]}
