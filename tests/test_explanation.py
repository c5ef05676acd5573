"""Explanations: parts that add up, paths and neighbours that are those of the run, and what the command writes."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cdist

import detour
from detour import store
from detour.bundle import Bundle
from detour.detector import Detector
from detour.explanation import GRADIENT, OUTPUT
from detour.options.detectors import METHODS
from test_bundle import BY_ANGLE, NAMES, bundled, command, lstm, pixels  # noqa: F401

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
        [members[np.argsort(far[members])[:20]] for members in (np.flatnonzero(label == c) for c in range(10))]
    )
    found = lstm.explain(pixels["step"][0])
    assert found.among == 20
    original = store.read(bundled / "activations/step.zarr.zip")[last][:1]
    near = chosen[np.argsort(cdist(original, x[chosen])[0])[:5]]
    at_last = [each for each in found.neighbours if each.layer == last]
    assert [int(each.label) for each in at_last] == label[near].tolist()
    np.testing.assert_allclose([each.distance for each in at_last], np.sort(cdist(original, x[near])[0]), rtol=1e-4)
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
