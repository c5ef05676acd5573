import re

import numpy as np
import pytest

from detour import chance


def table(label, predicted):
    """Verdicts of the originals and of an attack that always succeeds."""
    return [
        {"set": name, "source": i, "label": a, "before": b, "after": (a + 1) % 3}
        for name in ("original", "fgsm")
        for i, (a, b) in enumerate(zip(label, predicted, strict=True))
    ]


def noisy(rng, label, accuracy, classes, order=None):
    """Predictions that are right with that probability, or those of that order of the classes."""
    right = label if order is None else np.asarray(order)[label]
    return np.where(rng.random(len(label)) < accuracy, right, rng.integers(0, classes, len(label)))


@pytest.mark.parametrize("classes", [2, 10, 20, 1000])
def test_guessing_is_told_and_a_classifier_that_knows_a_little_is_not(rng, classes):
    label = np.sort(rng.integers(0, classes, 500))
    guessed = table(label, rng.integers(0, classes, 500))
    (line,) = chance.warnings(guessed, classes)
    assert "of 500 original images" in line
    assert f"guessing among {classes} classes" in line
    assert "folders sort in another order" in line
    assert chance.warnings(table(label, noisy(rng, label, 0.3, classes)), classes) == []


def test_one_class_alone_is_guessing_however_many_images_it_has(rng):
    label = np.repeat([0, 1], [90, 10])
    (line,) = chance.warnings(table(label, np.zeros(100, int)), 2)
    assert "right about 90 of 100" in line


def test_few_classes_of_many_in_the_test_are_no_reason_to_warn(rng):
    label = np.repeat([3, 7], 50)
    assert chance.warnings(table(label, noisy(rng, label, 0.6, 1000)), 1000) == []


@pytest.mark.parametrize(
    ("right", "classes", "told"), [(50, 1000, 0), (10, 1000, 0), (0, 1000, 1), (3, 10, 1)]
)
def test_images_of_one_class_that_are_known_are_no_guesses(right, classes, told):
    predicted = np.where(np.arange(50) < right, 7, 2)
    assert len(chance.warnings(table(np.full(50, 7), predicted), classes)) == told


def test_folders_in_another_order_than_the_outputs_are_told_with_examples(rng):
    """0 to 19 as text sort 0, 1, 10, 11, ...: most are then another class."""
    order = np.argsort([str(i) for i in range(20)])
    label = np.repeat(np.arange(20), 20)
    lines = chance.warnings(table(label, noisy(rng, label, 0.9, 20, order)), 20)
    assert re.match(r"1[5-8] classes are taken for one another as a whole \(2 for 10, 3 for 11, ", lines[-1])
    # Two of twenty are right, so that this is not guessing.
    assert len(lines) == 1
    swapped = np.arange(20)
    swapped[[4, 9]] = 9, 4
    (line,) = chance.warnings(table(label, noisy(rng, label, 0.8, 20, swapped)), 20)
    assert "2 classes are taken for one another as a whole (4 for 9, 9 for 4" in line


@pytest.mark.parametrize("seed", range(5))
def test_a_class_that_is_confused_with_another_is_no_order(tmp_path, seed):
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(20), 20)
    confused = np.arange(20)
    confused[[2, 5, 11]] = 3, 6, 3
    predicted = noisy(rng, label, 0.7, 20, confused)
    assert chance.warnings(table(label, predicted), 20) == []
    one_each = np.arange(100)
    assert chance.permuted(one_each, noisy(rng, one_each, 0.5, 100)) == ""
