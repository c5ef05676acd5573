"""Explanations: parts that add up, paths and neighbours that are those of the run, and what the command writes."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.spatial.distance import cdist

import detour
from detour import figures, pictures, store, tables
from detour.bundle import Bundle
from detour.detector import Detector
from detour.explanation import GRADIENT, OUTPUT
from detour.options.detectors import METHODS
from test_bundle import BY_ANGLE, MOVING, NAMES, SQUEEZING, bundled, command, lstm, pixels  # noqa: F401

GRADIENTS = [name for name in NAMES if name == BY_ANGLE or (name in METHODS and METHODS[name].differentiable)]


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_parts_of_a_detector_with_a_gradient_add_up(bundled, pixels, name):  # noqa: F811
    detector = Detector.load(bundled / "bundles" / name, device="cpu")
    images = pixels["step"][:4]
    scores = detector.seen(images).scores.mean(1)
    for image, score in zip(images, scores, strict=True):
        found = detector.explain(image)
        assert found.method == GRADIENT
        assert found.score == pytest.approx(score, rel=1e-5, abs=1e-5)
        assert list(found.parts) == found.layers == detector.layers
        change = found.score - found.baseline
        assert sum(found.parts.values()) + found.unexplained == pytest.approx(change)
        assert abs(found.unexplained) <= 0.01 * max(abs(change), 1)


@pytest.mark.parametrize("name", sorted({*NAMES} - {*GRADIENTS}))
def test_what_is_as_in_the_baseline_has_no_part(bundled, pixels, name):  # noqa: F811
    """Of detectors without a gradient: of the baseline itself, all parts are 0, and of others not all."""
    detector = Detector.load(bundled / "bundles" / name, device="cpu")
    found = [detector.explain(image) for image in pixels["step"][:4]]
    assert all(list(each.parts) == [*detector.layers, OUTPUT] for each in found)
    assert any(part for each in found for part in each.parts.values())
    held = Bundle(bundled / "bundles" / name).genuine
    original = store.read(bundled / "activations/original.zarr.zip")
    c = int(held["class"][0])
    (row,) = np.flatnonzero((original["logits"][:] == held["median/logits"][c]).all(1))
    same = detector.explain(pixels["original"][row])
    assert same.score == pytest.approx(same.baseline, rel=1e-4, abs=1e-4)
    assert all(part == pytest.approx(0, abs=1e-4) for part in same.parts.values())


@pytest.mark.parametrize("name", [SQUEEZING, MOVING])
def test_parts_are_of_what_a_detector_that_looks_again_reads(bundled, pixels, name):  # noqa: F811
    """The classifier's output, squeezed and not, is one part; confidences after a step are each of a layer."""
    detector = Detector.load(bundled / "bundles" / name, device="cpu")
    for image in pixels["step"][:4]:
        found = detector.explain(image)
        of_layers = np.array([found.parts[layer] for layer in found.layers])
        assert (of_layers != 0).all() == (name == MOVING) == (found.parts[OUTPUT] == 0)
        assert found.unexplained == pytest.approx(0, abs=1e-9)


def test_the_path_and_its_band_are_those_of_the_run(bundled, lstm, pixels):  # noqa: F811
    stored = store.read(bundled / "distances/original.zarr.zip")
    label, predicted, measured = (stored[name][:] for name in ("label", "predicted", "distances"))
    logits = store.read(bundled / "activations/original.zarr.zip")["logits"][:]
    right = label == predicted
    for row in (0, 50):
        found = lstm.explain(pixels["original"][row], label=str(label[row]))
        second = np.argsort(-logits[row])[1]
        assert (found.predicted, found.runner_up) == (str(predicted[row]), str(second))
        for key, c in (("predicted", predicted[row]), ("runner_up", second), ("label", label[row])):
            np.testing.assert_allclose(found.distance[key], measured[row, :, c], rtol=1e-4)
        own = right & (predicted == predicted[row])
        expected = np.percentile(measured[own][:, :, predicted[row]], [5, 50, 95], axis=0)
        np.testing.assert_allclose(list(found.band.values()), expected, rtol=1e-5)
        assert (found.genuine, found.of) == (own.sum(), found.predicted)
        assert found.leaves == lstm(pixels["original"][row], fpr=0.1)["leaves"][0]
    assert "label" not in lstm.explain(pixels["original"][0]).distance


def test_neighbours_are_the_nearest_of_the_examples_of_the_reference(bundled, lstm, pixels):  # noqa: F811
    reference = store.read(bundled / "reference/0.zarr.zip")
    last, label = lstm.layers[-1], reference["label"][:]
    x = reference[last][:]
    medoid = store.read(bundled / f"medoids/{last}.zarr.zip")["medoid"][:]
    far = cdist(x, medoid)[np.arange(len(x)), label]
    chosen = np.concatenate(
        [
            members[np.argsort(far[members])[:20]]
            for members in (np.flatnonzero(label == c) for c in range(10))
        ]
    )
    found = lstm.explain(pixels["step"][0])
    assert found.among == 20
    original = store.read(bundled / "activations/step.zarr.zip")[last][:1]
    near = chosen[np.argsort(cdist(original, x[chosen])[0])[:5]]
    at_last = [each for each in found.neighbours if each.layer == last]
    assert [int(each.label) for each in at_last] == label[near].tolist()
    np.testing.assert_allclose(
        [each.distance for each in at_last], np.sort(cdist(original, x[near])[0]), rtol=1e-4
    )
    assert all(each.name.startswith("digit ") and each.picture.any() for each in at_last)


def test_what_cannot_be_explained_is_refused(lstm, pixels, tmp_path):  # noqa: F811
    (tmp_path / "a.png").write_text("no image")
    wrong = {
        "found 2 images, expected one": lambda: lstm.explain(pixels["original"][:2]),
        r"a.png: .*cannot be decoded": lambda: lstm.explain(tmp_path / "a.png"),
        r"label.*cat": lambda: lstm.explain(pixels["original"][0], label="cat"),
        r"fold.*7": lambda: lstm.explain(pixels["original"][0], fold=7),
    }
    for message, call in wrong.items():
        with pytest.raises(detour.DetourError, match=message):
            call()


def test_the_command_writes_pictures_and_numbers(bundled, lstm, pixels, tmp_path):  # noqa: F811
    path, out = tmp_path / "a.png", tmp_path / "why.svg"
    Image.fromarray(pixels["step"][0].transpose(1, 2, 0)).save(path)
    for _ in range(2):
        done = command(
            "explain", bundled / "bundles/lstm", path, "--label", "0", "--out", out, "--device", "cpu"
        )
        assert done.exit_code == 0, done.stderr
        assert all((tmp_path / f"why.{ending}").stat().st_size for ending in ("svg", "pdf", "png", "json"))
        found = json.loads((tmp_path / "why.json").read_text())
        drawn = out.read_bytes()
        ET.fromstring(drawn)
    assert out.read_bytes() == drawn
    expected = lstm.explain(path, label="0")
    assert found == json.loads(json.dumps(expected.numbers()))
    assert f"predicted {expected.predicted}, runner-up {expected.runner_up}, true 0" in done.stdout
    wrong = command("explain", bundled / "bundles/lstm", tmp_path / "none.png")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "found no file" in wrong.stderr


def test_the_report_shows_one_caught_one_missed_and_a_false_alarm(bundled, lstm, pixels):  # noqa: F811
    table = tables.read(bundled / "scores.zarr.zip")
    table = table[table["detector"] == "lstm"]
    chosen = pictures.cases(table, tables.read(bundled / "verdicts.zarr.zip"))
    assert set(chosen) == {"caught", "missed", "false alarm"}
    for kind, row in chosen.items():
        if row is None:
            continue
        found = lstm.explain(pixels[row["set"]][row["source"]], fold=int(row["fold"]))
        assert found.score == pytest.approx(row["score"], rel=1e-4)
        # But for the image itself, which is among the genuine.
        assert found.p == pytest.approx(row["p"], abs=2 / len(pixels["original"]) + 1e-9 + 0.02)
        assert (row["p"] <= pictures.FPR) == (kind != "missed")
        assert row["adversarial"] == (kind != "false alarm")


@pytest.mark.parametrize("there", [True, False])
def test_cases_are_the_clearest_of_their_kind(there):
    """Twenty originals with the scores 0 to 19, and four attacked images, of which one fooled nobody."""
    scores = pd.DataFrame(
        {
            "set": ["original"] * 20 + ["a"] * 4,
            "source": [*range(20), *range(4)],
            "score": [*range(20), 30, 40, 5, 6],
            "adversarial": [0] * 20 + [1] * 4,
            "protocol": "known",
            "role": "test",
            "fold": 0,
        }
    )
    verdicts = scores[["set", "source"]].assign(successful=[False] * 20 + [there, there, False, there])
    found = pictures.cases(scores, verdicts)
    alarm = found["false alarm"]
    assert (alarm["source"], alarm["p"]) == (19, 1 / 20)
    if not there:
        assert found["caught"] is found["missed"] is None
        return
    assert (found["caught"]["source"], found["caught"]["p"]) == (1, 1 / 21)
    assert (found["missed"]["source"], found["missed"]["p"]) == (3, 15 / 21)


def test_a_run_s_figure_is_drawn_from_its_bundle(bundled, tmp_path):  # noqa: F811
    inputs = {
        "bundle": bundled / "bundles/lstm",
        "images": [bundled / f"images/{name}.zarr.zip" for name in ("original", "step")],
        "scores": bundled / "scores.zarr.zip",
        "verdicts": bundled / "verdicts.zarr.zip",
    }
    told = {"detector": "lstm", "seed": 0, "trusted": []}
    figures.draw("explained", tmp_path / "a.svg", tmp_path / "a.pdf", inputs, **told)
    drawn = (tmp_path / "a.svg").read_text()
    assert "<dc:title>explained</dc:title>" in drawn
    for kind in pictures.KINDS:
        assert f">{kind}: " in drawn or "nothing to show: there is not" in drawn
