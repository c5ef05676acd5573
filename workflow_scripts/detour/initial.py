"""Initial: a configuration for a folder of images and a network, after a look at both."""

import csv
import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import yaml
from PIL import Image

from detour import console, folders
from detour.artefacts import written
from detour.drawn import drawn
from detour.errors import InputError
from detour.options.detectors.neighbours import KNN
from detour.plan import Plan
from detour.spelling import shown

# What the two parts of a data set are called, where they are folders.
REFERENCE, TEST = ("train", "training", "reference"), ("val", "valid", "validation", "test")

# Of each class, where all images are in one folder: as many test images as five folds need twice, or a fifth.
LEAST, PART = 10, 5

# Images whose size is looked at.
SEEN = 200

# Up to this side, in pixels, images are small: `small_resnet` is made for them.
SMALL = 64

# What torchvision's networks are evaluated at, of photographs.
RESIZE, CROP = 256, 224


class Layout(NamedTuple):
    """What is where: the folders of two parts, and the names of their images by class."""

    reference: Path
    test: Path
    of_reference: dict[str, list[str]]
    of_test: dict[str, list[str]]


def initial(images: Path, out: Path, *, model: str | None, weights: str, say: Callable[[str], None]) -> Plan:
    """Write a configuration with comments to `out`, which has passed the checks of the workflow.

    Parameters
    ----------
    images
        A folder with a folder for each class, or with two such folders, `train` and `val`. In one folder,
        test images are drawn by their names, and two lists beside `out` say which are which.
    model
        `classifier.model`; None: `small_resnet` for small images, otherwise `resnet18`.
    weights
        `classifier.weights`.
    say
        Called with the progress, if there are many files to read.

    Raises
    ------
    InputError
        If a file is there already, or the folder has no such images.
    ConfigError
        If the workflow would refuse the configuration; then nothing is written.
    """
    layout = _layout(images)
    lists = {part: out.with_name(f"{out.stem}-{part}.csv") for part in ("reference", "test")}
    split = layout.reference == layout.test
    _refuse_names([layout.reference, layout.test], layout if split else None)
    for path in [out, *(lists.values() if split else [])]:
        if path.exists():
            raise InputError(f"{path}: is there already; name another file with --out, or remove it")
    text = _text(images, layout, lists if split else {}, model, weights)
    try:
        if split:
            for part, of in (("reference", layout.of_reference), ("test", layout.of_test)):
                _write_list(lists[part], of)
        plan = console.planned(yaml.safe_load(text), [], first=True, say=say)
    except BaseException:
        for path in lists.values() if split else []:
            path.unlink(missing_ok=True)
        raise
    text = text.replace("layers: auto\n", f"layers: auto    # {', '.join(plan.layers)}\n")
    with written(out) as part_of:
        part_of.write_text(text, "utf-8")
    return plan


def _layout(images: Path) -> Layout:
    if not images.is_dir():
        raise InputError(f"{images}: is no folder, expected one of images, a folder for each class")
    names = {name.lower(): images / name for name in folders.classes(images)}
    reference, test = (
        next((names[name] for name in wanted if name in names), None) for wanted in (REFERENCE, TEST)
    )
    if reference and test:
        return Layout(reference, test, _of_classes(reference), _of_classes(test))
    every = _of_classes(images)
    of_test = {
        name: drawn(found, min(len(found) // 2, max(LEAST, len(found) // PART)), 0, name)
        for name, found in every.items()
    }
    rest = {name: sorted({*found} - {*of_test[name]}) for name, found in every.items()}
    return Layout(images, images, rest, of_test)


def _refuse_names(paths: list[Path], listed: Layout | None) -> None:
    """A configuration and a list are text, which not every name of a file is."""
    parts = (listed.of_reference, listed.of_test) if listed else ()
    for name in [*map(str, paths), *(name for part in parts for of in part.values() for name in of)]:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{shown(name)}: its name is not UTF-8, expected one that is; rename it"
            ) from None


def _of_classes(root: Path) -> dict[str, list[str]]:
    """Images by class, `class/image`; without folders that have none."""
    found = {
        name: sorted(f"{name}/{path}" for path in folders.images(root / name))
        for name in folders.classes(root)
    }
    found = {name: paths for name, paths in found.items() if paths}
    if len(found) < 2:
        raise InputError(
            f"{root}: found {len(found)} folders with images, expected two classes or more, a folder each, or"
            " folders train and val that have them"
        )
    return found


def _write_list(path: Path, of_class: dict[str, list[str]]) -> None:
    with written(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        rows.writerows((image, name) for name, paths in of_class.items() for image in paths)


def _sides(layout: Layout) -> list[int]:
    """Shorter sides of some images of the reference; of those that Pillow can open."""
    names = [name for paths in layout.of_reference.values() for name in paths]
    found = []
    for name in drawn(names, SEEN, 0, "sizes"):
        with (
            suppress(OSError, ValueError, Image.DecompressionBombError),
            Image.open(layout.reference / name) as image,
        ):
            found.append(min(image.size))
    if not found:
        raise InputError(f"{layout.reference}: found no image that Pillow can open, expected some")
    return found


def _text(images: Path, layout: Layout, lists: dict[str, Path], model: str | None, weights: str) -> str:
    sides = _sides(layout)
    side = int(median(sides))
    resize, crop = (RESIZE, CROP) if side > RESIZE else (side, side)
    model = model or ("small_resnet" if side <= SMALL else "resnet18")
    reference, test = (
        [len(of) for of in part.values() if of] for part in (layout.of_reference, layout.of_test)
    )
    # Each class is dealt into twice as many groups as there are folds, if it has as many images.
    stratified = min(test, default=0) >= 4
    folds = min(5, (min(test) if stratified else sum(test)) // 2)
    if folds < 2:
        raise InputError(
            f"{layout.test}: found {sum(test)} images to attack, expected at least 4, two for each of"
            " two folds; of one folder, at most half of a class's images are taken: add some"
        )
    nearest = KNN.model_fields["k"].default
    k = [count for count in nearest if count <= sum(reference)] or [sum(reference)]
    name = re.sub("[^A-Za-z0-9_.-]+", "-", images.resolve().name).strip("-._")[:100] or "mine"
    places = lists or {"reference": layout.reference, "test": layout.test}
    outputs = "sorted by name, numbers as numbers" if lists else "sorted by name"
    trained = (
        "by this run, on the reference images; or the path of a checkpoint"
        if weights == "train"
        else f"its k-th output is the k-th class of the reference, {outputs}"
    )
    of_training = (
        "what the network was trained on, or is trained on here"
        if weights == "train"
        else "what the network was trained on; images that it has not seen, of the test, show more"
    )
    dataset = [
        f"  name: {'csv' if lists else 'image_folder'}",
        f"  reference: {_quoted(places['reference'])}    # {sum(reference)} images: {of_training}",
        f"  test: {_quoted(places['test'])}    # {sum(test)} images, which are attacked",
        *([f"  root: {_quoted(images)}    # what the paths in both lists are from"] if lists else []),
        f"  resize: {resize}    # shorter side; it is {min(sides)} to {max(sides)}, mostly {side}",
        f"  crop: {crop}    # square from the centre, as the network expects it",
        f"  shards: {min(4, len(reference))}    # parts of the reference, which are jobs of their own",
    ]
    counted = [f"{len(part)} classes, {sum(part)} images" for part in (reference, test)]
    dealt = "class" if stratified else "none"
    return f"""\
# {" and ".join(counted)}: reference and test.
# Every key, with its default: docs/configuration.md. What is left out here has its default.

run: {_quoted(name)}    # its files are under results/{{run}}/

dataset:
{NEWLINE.join(dataset)}

classifier:
  model: {_quoted(model)}    # of torchvision, small_resnet, or a network of your own: docs/networks.md
  weights: {_quoted(weights)}    # {trained}
  layers: auto

folds:
  count: {folds}    # the test images are dealt into twice as many groups
  stratify: {dealt}    # class: each group has the classes in equal shares; none: as they come

# The paper's four attacks; eps is the largest change of a pixel, of 255.
attacks:
  - {{name: fgsm_random, method: fgsm, eps: 16, target: random}}
  - {{name: noise, method: noise, eps: 16}}
  - {{name: fgsm_target, method: fgsm, eps: 16, target: dataset}}
  - {{name: iterative_target, method: iterative, eps: 16, steps: 20, step: 1, target: dataset}}

# The paper's detector, and its baseline.
detectors:
  - {{name: lstm, method: lstm}}
  - {{name: knn, method: knn, layer: last, k: {k}}}
"""


# In an expression of an f-string, Python 3.11 takes no backslash.
NEWLINE = "\n"


def _quoted(text: object) -> str:
    """Text as YAML reads it back, whatever is in it: strings of JSON are strings of YAML."""
    return json.dumps(str(text), ensure_ascii=False)
