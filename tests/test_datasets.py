"""Datasets from outside, of torchvision, in arrays and in lists: what becomes of each image, and what is refused."""

import json
import pickle
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml
import zarr
from PIL import Image

import test_reruns
from asked import listed
from conftest import ROOT, Workflow
from detour import attacks, code, config, datasets, folders, images, manifest, methods, outside, store
from detour.config import ConfigError
from detour.datasets.outside import described
from detour.drawn import dealt
from detour.errors import InputError
from detour.options import datasets as options
from detour.options.datasets import DATASETS
from detour.pixels import of_memory
from detour.plan import Plan
from test_plan import SCRIPTS, assert_reruns

pytestmark = pytest.mark.usefixtures("forked")

LAYERS = ["stem", "blocks.7"]

# Of 6 x 6 pixels, so that rows, columns and channels cannot be taken for one another.
RGB = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
CHW = RGB.transpose(2, 0, 1)
LEVELS = np.random.default_rng(1).integers(0, 2**16, (6, 6), dtype=np.uint16)

TAKEN = {
    "PIL": (Image.fromarray(RGB), CHW),
    "PIL grey": (Image.fromarray(GREY), np.stack([GREY] * 3)),
    "PIL with transparency": (Image.fromarray(np.dstack([RGB, GREY])), CHW),
    "PIL of 16 bits": (Image.fromarray(LEVELS), np.stack([LEVELS // 256] * 3)),
    "array, channels last": (RGB, CHW),
    "array, channels first": (CHW, CHW),
    "array, grey": (GREY, np.stack([GREY] * 3)),
    "array, one channel last": (GREY[:, :, None], np.stack([GREY] * 3)),
    "array, turned": (RGB[::-1], CHW[:, ::-1]),
    "tensor, one channel first": (torch.from_numpy(GREY.copy())[None], np.stack([GREY] * 3)),
    "tensor of floats": (torch.from_numpy(CHW / 255).float(), CHW),
    "array of floats between levels": (RGB / np.float16(255) * np.float16(0.5), np.rint((CHW / np.float16(255) * np.float16(0.5)).astype(np.float64) * 255)),
}  # fmt: skip


@pytest.mark.parametrize("kind", TAKEN)
def test_an_image_in_memory_is_what_numpy_makes_of_it(kind):
    given, expected = TAKEN[kind]
    pixels, turned = of_memory(given)
    assert (pixels.dtype, turned) == (torch.uint8, False)
    if "between" in kind:
        # Half-precision rounds once more.
        assert np.abs(pixels.numpy() - expected).max() <= 1
    else:
        np.testing.assert_array_equal(pixels.numpy(), expected)


def test_an_image_that_asks_to_be_turned_is_not_and_says_so():
    image = Image.fromarray(RGB)
    image.getexif()[0x0112] = 6
    pixels, turned = of_memory(image)
    np.testing.assert_array_equal(pixels.numpy(), CHW)
    assert turned


UNKNOWN = {
    "values beyond 1": (RGB.astype(np.float32), r"found values from \d+ to \d+ in an array float32 \[6, 6, 3\]"),
    "values below 0": (CHW / 255 - 0.5, r"found values from -0.5 to 0.\d+ in an array float64"),
    "NaN": (np.full((3, 6, 6), np.nan), "found values from nan to nan"),
    "16 bits": (LEVELS, r"found an array uint16 \[6, 6\]"),
    "whole numbers": (RGB.astype(np.int64), r"found an array int64"),
    "four channels": (np.dstack([RGB, GREY]), r"found an array uint8 \[6, 6, 4\]"),
    "a batch": (RGB[None], r"found an array uint8 \[1, 6, 6, 3\]"),
    "nothing": (RGB[:0], r"found an array uint8 \[0, 6, 3\]"),
    "objects": (RGB.astype(object), r"found an array object"),
    "a path": ("a.png", "found a str"),
    "PIL of floats": (Image.fromarray(GREY.astype(np.float32)), "found values of 32 bits"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_is_no_image_is_refused_by_what_was_found(kind):
    given, message = UNKNOWN[kind]
    with pytest.raises(InputError, match=message):
        of_memory(given)


# Of code from outside --------------------------------------------------------------------------------------------

MINE = """
import numpy as np


class Pairs:
    classes = ["cat", "dog"]

    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        return self.pairs[i]


def pairs(part, count=12, **other):
    rng = np.random.default_rng([count, len(part)])
    return Pairs([(rng.integers(0, 256, (8, 8, 3), np.uint8), i % 2) for i in range(count)])
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Write a dataset in a file of its own, and return its section: `mine(source, **keys)`."""
    monkeypatch.chdir(tmp_path)

    def write(source: str = "", name: str = "mine.py", function: str = "pairs", **keys) -> dict:
        (tmp_path / name).write_text(MINE + source)
        return {"name": f"{name}:{function}", **keys}

    return write


def validated(section: dict) -> options.Dataset:
    return DATASETS.get(section["name"], options.Outside).model_validate(section)


def said(section: dict) -> options.Dataset:
    """The options, with what the dataset says of itself, asked in this process."""
    found = validated(section)
    found._said.update(described(found))
    return found


def whole(section: dict, **keys) -> dict:
    given = {
        "run": "x",
        "dataset": section,
        "classifier": {"model": "small_resnet", "weights": "untrained", "layers": LAYERS},
        "attacks": [{"name": "step", "method": "fgsm", "eps": 8}],
        "folds": {"count": 2},
        "detectors": [{"name": "knn", "method": "knn", "k": [3]}, {"name": "energy", "method": "energy"}],
    }
    return given | keys


@pytest.fixture
def here(monkeypatch) -> list[str]:
    """Ask code from outside in this process, as if it were a new one each time; the keys that were asked of."""
    keys: list[str] = []

    def asked(question: str) -> dict:
        questions = json.loads(question)
        keys.extend(questions)
        forget()
        return {key: outside._described(question) for key, question in questions.items()}

    monkeypatch.setattr(outside, "_asked", asked)
    return keys


def forget() -> None:
    for cached in (methods._of_file, code._meaning, code.meaning):
        cached.cache_clear()


def test_a_function_s_images_are_those_that_jobs_read(mine):
    section = mine(size=None, test=4, per_class=3)
    dataset = datasets.dataset(section)
    rng = np.random.default_rng([12, len("reference")])
    plain = [rng.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(12)]
    found = dataset.reference_images()
    assert found.label.tolist() == [0] * 3 + [1] * 3
    for k, (name, label) in enumerate(zip(found.names, found.label, strict=True)):
        i = int(name.removeprefix("reference "))
        pixels, c, turned = found.images[k]
        np.testing.assert_array_equal(pixels.numpy(), plain[i].transpose(2, 0, 1))
        assert (c, turned) == (label, "")
        assert label == i % 2
    alone = dataset.reference_images([1])
    assert alone.names == found.names[3:]
    assert len(dataset.test_images().label) == 4
    # What the workflow counts is what the jobs read.
    options = said(section)
    assert options.classes == dataset.classes == ["cat", "dog"]
    assert sum(options.test_counts().values()) == 4
    assert options.reference_count(100) == 6
    assert [list(group.about) for group in options.reference_files(0)] == [found.names[:3], found.names[3:]]
    assert [list(group.about) for group in options.test_files()] == [dataset.test_images().names]


def test_a_dataset_of_a_package_is_one_like_that_of_a_file(mine, tmp_path, monkeypatch):
    (tmp_path / "mine_of_a_package").mkdir()
    mine(name="mine_of_a_package/sets.py")
    monkeypatch.syspath_prepend(tmp_path)
    section = {"name": "mine_of_a_package.sets:pairs", "options": {"count": 6}}
    assert said(section).test_counts() == {"cat": 3, "dog": 3}


def test_images_that_ask_to_be_turned_are_stored_as_they_are_and_named(mine, made, tmp_path):
    turned = """
def turned(part):
    from PIL import Image

    found = pairs(part)
    image = Image.fromarray(found.pairs[3][0])
    image.getexif()[0x0112] = 6
    found.pairs[3] = (image, 1)
    return found
"""
    dataset = datasets.dataset(mine(turned, function="turned"))
    images.collect(dataset, tmp_path / "original.zarr.zip", seed=0, workers=2, made=made)
    stored = store.read(tmp_path / "original.zarr.zip")
    assert stored.attrs["turned"] == ["test 3"]
    rng = np.random.default_rng([12, len("test")])
    plain = np.stack([rng.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(12)])
    np.testing.assert_array_equal(stored["images"][:], plain.transpose(0, 3, 1, 2))
    assert stored["label"][:].tolist() == [0, 1] * 6


@pytest.mark.parametrize("kind", ["function", "list"])
def test_an_attack_starts_from_images_of_files_and_of_functions(mine, lists, monkeypatch, kind):
    """Which come with a third value, unlike the digits."""
    monkeypatch.setattr(attacks, "_predicted", lambda classifier, pixels, name: 1)
    dataset = datasets.dataset(mine()) if kind == "function" else listed(**lists)
    first = dataset.reference_images([1]).images[0][0].numpy()
    np.testing.assert_array_equal(attacks.start_of(None, dataset, "a", 1), first)
    assert attacks.start_of(None, dataset, "a", 0) is None


def test_images_of_many_sizes_are_resized_as_those_of_files(mine):
    other = """
def many(part):
    rng = np.random.default_rng(len(part))
    return Pairs([(rng.integers(0, 256, (20 + i, 30, 3), np.uint8), i % 2) for i in range(6)])
"""
    with pytest.raises(
        InputError, match=r"found test 1 of 30 x 21 pixels, and test 0 of 30 x 20, expected one"
    ):
        said(mine(other, function="many"))
    section = mine(other, function="many", size=10)
    assert said(section).pixels == 10
    pixels = datasets.dataset(section).test_images().images[0][0].numpy()
    first = np.random.default_rng(4).integers(0, 256, (20, 30, 3), np.uint8)
    pillow = Image.fromarray(first).resize((15, 10), Image.Resampling.BILINEAR)
    expected = np.asarray(pillow).transpose(2, 0, 1)[:, :, 2:12]
    assert np.abs(pixels.astype(int) - expected).max() <= 1


REFUSED = {
    "no classes": ("Pairs.classes = None", "has no list `classes`, expected the names"),
    "a text of classes": ("Pairs.classes = 'ab'", "has no list `classes`"),
    "one class": ("Pairs.classes = ['cat']", "classes: found cat, expected at least two"),
    "a class twice": ("Pairs.classes = ['cat', 'cat']", "expected at least two, none twice"),
    "nothing of a class": ("Pairs.classes = ['cat', 'dog', 'eel']", "reference: found no image of eel"),
    "a class outside": ("Pairs.__getitem__ = lambda self, i: (self.pairs[i][0], i)", "test 2: class: found 2, expected a whole number from 0 to 1"),
    "a class by name": ("Pairs.__getitem__ = lambda self, i: (self.pairs[i][0], 'cat')", "test 0: class: found 'cat', expected a whole"),
    "true": ("Pairs.__getitem__ = lambda self, i: (self.pairs[i][0], True)", "class: found True"),
    "a mapping": ("Pairs.__getitem__ = lambda self, i: {'image': 1}", "test 0: found a dict, expected a pair"),
    "an image beyond 1": ("Pairs.__getitem__ = lambda self, i: (self.pairs[i][0] * 1.0, i % 2)", r"test 0: found values from \d+ to \d+"),
    "an image that raises": ("Pairs.__getitem__ = lambda self, i: {}[i]", "test 0: raised KeyError: 0"),
    "other pixels each time": ("Pairs.__getitem__ = lambda self, i: (np.random.randint(0, 256, (8, 8), np.uint8), i % 2)", "test 0 has other pixels when it is read again"),
    "no square": ("Pairs.__getitem__ = lambda self, i: (self.pairs[i][0][1:], i % 2)", "found images of 8 x 7 pixels, expected squares"),
    "other labels": ("Pairs.labels = [0] * 12", "its `labels` or `targets` .12. are not the classes that its images come with .12., of test 1 0 and 1"),
    "too few labels": ("Pairs.labels = [0, 1]", "`targets` .2. are not the classes that its images come with .12.;"),
    "no images": ("Pairs.__len__ = lambda self: 0", "test: found no image"),
    "a generator": ("def pairs(part):\n    yield 1", "returned a generator for 'reference', which has no __len__ and no __getitem__"),
    "a function that raises": ("def pairs(part):\n    raise OSError('no such disc')", r"mine.py:pairs \(reference\): raised OSError: no such disc"),
    "other arguments": ("def pairs():\n    pass", r"cannot be called as function\(part, \*\*options\)"),
    "a number of classes of the test": ("def pairs(part, made=pairs):\n    found = made(part)\n    if part == 'test':\n        found.classes = 2\n    return found", "has no list `classes`"),
    "other classes of the test": ("def pairs(part, made=pairs):\n    found = made(part)\n    found.classes = ['cat', 'dog'][:: 1 if part == 'test' else -1]\n    return found", "classes: found cat, dog of the test, and dog, cat of the reference"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_dataset_that_cannot_be_used_is_refused_by_what_was_found(mine, kind):
    source, message = REFUSED[kind]
    with pytest.raises(InputError, match=message):
        described(validated(mine(source)))


def test_classes_need_not_be_text(mine):
    assert described(validated(mine("Pairs.classes = range(2)")))["classes"] == ["0", "1"]


@pytest.mark.usefixtures("here")
def test_what_is_wrong_is_a_line_of_the_configuration_before_any_job(mine):
    with pytest.raises(ConfigError, match=r"\n  dataset: mine\.py:pairs: test 0: raised KeyError: 0$"):
        config.load(whole(mine("Pairs.__getitem__ = lambda self, i: {}[i]")))
    with pytest.raises(ConfigError, match=r"\n  dataset: found no file 'other\.py'"):
        config.load(whole({"name": "other.py:pairs"}))
    with pytest.raises(ConfigError, match="dataset.sise: found 'sise', allowed: .*did you mean `size`"):
        config.load(whole(mine(sise=8)))
    with pytest.raises(ConfigError, match="dataset.name: found 'digit', allowed: .*did you mean `digits`"):
        config.load(whole({"name": "digit"}))


def test_the_example_of_the_documentation_is_a_dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/images.md").read_text()
    (example,) = re.findall(r"```python\n(# my_images.py.*?)```", page, re.DOTALL)
    Path("my_images.py").write_text(example)
    levels = np.random.default_rng(0).integers(0, 4096, (2, 2, 3, 8, 8), dtype=np.uint16)
    for p, part in enumerate(("test", "reference")):
        for c, name in enumerate(("healthy", "ill")):
            Path("scans", part, name).mkdir(parents=True)
            for i in range(3):
                np.save(f"scans/{part}/{name}/{i}.npy", levels[p, c, i])
    section = {"name": "my_images.py:scans", "options": {"root": "scans"}}
    assert said(section).classes == ["healthy", "ill"]
    found = datasets.dataset(section).reference_images([1])
    for i in range(3):
        grey = np.rint(levels[1, 1, i] / 4095 * 255)
        np.testing.assert_array_equal(found.images[i][0].numpy(), np.stack([grey] * 3))
    (block,) = re.findall(r"```yaml\n(dataset:\n  name: my_images.*?)```", page, re.DOTALL)
    assert validated(yaml.safe_load(block)["dataset"]).options == {"root": "data/scans"}


@pytest.mark.parametrize("name", ["csv", "arrays", "torchvision"])
def test_the_sections_of_the_documentation_are_options(name):
    page = (ROOT / "docs/images.md").read_text()
    (block,) = re.findall(rf"```yaml\n(dataset:\n  name: {name}\n.*?)```", page, re.DOTALL)
    validated(yaml.safe_load(block)["dataset"])


def test_more_test_images_than_there_are_are_refused(mine):
    assert said(mine(test=13)).problems() == ["dataset.test: found 13, allowed: at most all test images, 12"]
    assert said(mine(test=12)).problems() == []


@pytest.mark.parametrize("count", [10, 37, 100])
def test_what_is_dealt_has_the_classes_in_their_shares(count):
    label = [0] * 50 + [1] * 30 + [2] * 20
    order = dealt(label, [f"test {i}" for i in range(100)])
    assert sorted(order) == list(range(100))
    found = np.bincount([label[i] for i in order[:count]])
    assert np.abs(found - count * np.array([0.5, 0.3, 0.2])).max() <= 1


def contents(section: dict, tmp_path: Path) -> dict:
    run = config.load(whole(section), tmp_path / "outside.json")
    return manifest.contents(run, tmp_path / "results/x/contents.json", again=True, say=print)


@pytest.mark.usefixtures("here")
def test_images_that_are_in_test_and_reference_or_twice_in_the_test_are_found_by_their_pixels(mine, tmp_path):
    shared = """
def shared(part, floats=False):
    found = pairs(part)
    image, _ = pairs("test").pairs[5]
    found.pairs[11] = (image.transpose(2, 0, 1) / 255 if part == "reference" else image, 1)
    return found
"""
    section = mine(shared, function="shared")
    with pytest.raises(
        ConfigError, match="same images are in the test and in the reference, 1 pairs: test 5 = "
    ):
        contents(section, tmp_path)
    found = contents(section | {"duplicates": "allow"}, tmp_path)
    assert "1 pairs: test 5 = reference 11" in found["leaked"][0]
    assert "1 image is a copy of another" in found["copied"][0]
    assert "test 11 = test 5" in found["copied"][0]
    # Where it is not drawn, it is no leak.
    leaks = set()
    for count in (2, 3, 4, 5):
        drawn = section | {"per_class": count, "duplicates": "allow"}
        taken = "reference 11" in datasets.dataset(drawn).reference_images().names
        assert bool(contents(drawn, tmp_path)["leaked"]) == taken
        leaks.add(taken)
    assert leaks == {True, False}


# What reruns -----------------------------------------------------------------------------------------------------

JUDGED = r"verdicts|folds|detectors/.*|figures/.*|scores|report\.html|leaderboard\.json"
OF_TEST = rf"images/.*|activations/(?!reference).*|distances/.*|neighbours/.*|{JUDGED}"
OF_REFERENCE = r"activations/reference/.*|medoids/.*|distances/.*|neighbours/.*|detectors/knn/.*|detectors/energy/bundle|figures/(?!samples).*|scores|report\.html|leaderboard\.json"


def now(section: dict, tmp_path: Path) -> dict:
    """What the jobs of a run are made of, by what they write."""
    forget()
    run = config.load(whole(section), tmp_path / "outside.json")
    found = manifest.contents(run, tmp_path / "results/x/contents.json", again=True, say=print)
    return {
        path: (job, code.meaning(SCRIPTS / job.script, *job.methods))
        for path, job in Plan(run, LAYERS, found).jobs()
    }


def test_an_edit_of_a_dataset_reruns_what_reads_it(mine, here, tmp_path):
    section = mine(shards=2)
    before = now(section, tmp_path)
    mine("# A comment.\n")
    assert_reruns("", before, now(section, tmp_path))
    # Asked once, and not where only a comment is new.
    assert here == ["dataset"]
    mine("OTHER = 1\n")
    assert_reruns(rf"{OF_TEST}|{OF_REFERENCE}", before, now(section, tmp_path))
    mine()
    other = section | {"options": {"other": 1}}
    assert_reruns(rf"{OF_TEST}|{OF_REFERENCE}", before, now(other, tmp_path))
    assert_reruns("", before, now(section, tmp_path))
    # Of the test alone, and of the reference alone.
    assert_reruns(OF_TEST, before, now(section | {"test": 8}, tmp_path))
    assert_reruns(OF_REFERENCE, before, now(section | {"per_class": 5}, tmp_path))
    assert_reruns(
        r"report\.html|leaderboard\.json|detectors/.*/bundle|figures/explained",
        before,
        now(section | {"duplicates": "allow"}, tmp_path),
    )
    # The images were read again for other code and other options alone, and for both once more.
    assert len(here) == 4


IN_A_FILE = """
from pathlib import Path


def stored(part):
    found = pairs(part)
    found.files = [Path(f"{part}.npy")]
    if found.files[0].exists():
        found.pairs[1] = (np.load(found.files[0]), 1)
    return found
"""


def test_other_data_in_a_file_that_is_named_are_noticed_and_one_that_is_touched_is_not(
    mine, here, tmp_path, monkeypatch
):
    monkeypatch.setattr(folders, "SETTLED", 0)
    section = mine(IN_A_FILE, function="stored", shards=2)
    for part in ("test", "reference"):
        np.save(f"{part}.npy", np.full((8, 8), len(part), np.uint8))
    before = now(section, tmp_path)
    now(section, tmp_path)
    assert len(here) == 1
    Path("reference.npy").touch()
    assert_reruns("", before, now(section, tmp_path))
    assert len(here) == 2
    np.save("reference.npy", np.full((8, 8), 200, np.uint8))
    # Of the class of the image that changed.
    assert_reruns(OF_REFERENCE.replace("reference/.*", "reference/1"), before, now(section, tmp_path))
    # A job takes what the workflow found.
    config.load(whole(section), tmp_path / "outside.json", again=False)
    assert len(here) == 3
    Path("reference.npy").unlink()
    config.load(whole(section), tmp_path / "outside.json", again=False)
    assert len(here) == 3
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        config.load(whole(section), tmp_path / "outside.json")


def test_a_file_that_changed_just_now_is_looked_at_again(mine, here, tmp_path):
    """It may change again within a tick of the file system's clock."""
    section = mine(IN_A_FILE, function="stored")
    for part in ("test", "reference"):
        np.save(f"{part}.npy", np.full((8, 8), len(part), np.uint8))
    now(section, tmp_path)
    now(section, tmp_path)
    assert len(here) == 2


def test_an_edit_of_an_attack_asks_the_attack_alone(mine, here, tmp_path):
    section, attack = mine(), tmp_path / "attack.py"
    attack.write_text("def same(classifier, x, y, seeds): return x")
    settings = whole(section, attacks=[{"name": "a", "method": "attack.py:same"}])
    config.load(settings, tmp_path / "outside.json")
    assert sorted(here) == ["attacks[0]", "dataset"]
    forget()
    attack.write_text("def same(classifier, x, y, seeds): return x + 0")
    config.load(settings, tmp_path / "outside.json")
    assert here[2:] == ["attacks[0]"]
    # Nor does one that fails make the images be read again.
    forget()
    attack.write_text("def same(): return 1")
    with pytest.raises(ConfigError, match="cannot be called as"):
        config.load(settings, tmp_path / "outside.json")
    forget()
    attack.write_text("def same(classifier, x, y, seeds): return x")
    config.load(settings, tmp_path / "outside.json")
    assert here[3:] == ["attacks[0]"] * 2


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"dataset": 1}', '{"dataset": {}}', "\0", "cut"])
def test_what_was_remembered_and_is_not_whole_is_asked_anew(mine, here, tmp_path, damage):
    settings, remembered = whole(mine()), tmp_path / "outside.json"
    before = config.load(settings, remembered).dataset._said
    text = remembered.read_text()
    remembered.write_text(text[: len(text) // 2] if damage == "cut" else damage)
    assert config.load(settings, remembered).dataset._said == before
    assert remembered.read_text() == text
    assert len(here) == 2


# In arrays -------------------------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(2).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
CLASSES = np.arange(12) % 3


def saved(folder: Path, kind: str, **arrays: np.ndarray) -> Path:
    if kind == ".npz":
        np.savez(folder / f"a{len(list(folder.iterdir()))}.npz", **arrays)
        return max(folder.glob("a*.npz"))
    path = folder / f"b{len(list(folder.iterdir()))}{kind}"
    store = zarr.storage.ZipStore(path, mode="w") if kind == ".zarr.zip" else path
    text = {"classes": arrays["classes"].tolist()} if "classes" in arrays else {}
    group = zarr.create_group(store, attributes=text)
    for name, array in arrays.items():
        if name != "classes":
            group.create_array(name, data=array)
    if kind == ".zarr.zip":
        store.close()
    return path


@pytest.mark.parametrize("kind", [".npz", ".zarr", ".zarr.zip"])
@pytest.mark.parametrize("form", ["channels last", "channels first", "floats", "grey"])
def test_arrays_are_the_images_that_numpy_has(tmp_path, kind, form):
    grey = np.repeat(IMAGES[..., :1], 3, axis=3)
    images, expected = {
        "channels last": (IMAGES, IMAGES),
        "channels first": (IMAGES.transpose(0, 3, 1, 2), IMAGES),
        "floats": ((IMAGES / 255).astype(np.float32), IMAGES),
        "grey": (IMAGES[..., 0], grey),
    }[form]
    reference = saved(tmp_path, kind, images=images, labels=CLASSES, classes=np.array(["a", "b", "c"]))
    test = saved(tmp_path, kind, images=images[:5][:, ::-1], labels=CLASSES[:5])
    section = {"name": "arrays", "reference": str(reference), "test": str(test), "shards": 1}
    options, dataset = said(section), datasets.dataset(section)
    assert (options.classes, options.pixels) == (["a", "b", "c"], 8)
    found = dataset.reference_images()
    assert found.label.tolist() == sorted(CLASSES.tolist())
    order = np.argsort(CLASSES, kind="stable")
    np.testing.assert_array_equal(
        np.stack([found.images[i][0] for i in range(12)]), expected[order].transpose(0, 3, 1, 2)
    )
    assert dataset.test_images().label.tolist() == CLASSES[:5].tolist()
    assert [list(group.about.values()) for group in options.test_files()] == [[(c,) for c in CLASSES[:5]]]


NO_ARRAYS = {
    "no labels": ({"images": IMAGES}, "has no labels, but images; expected arrays with `images`"),
    "other names": ({"x": IMAGES, "y": CLASSES}, "has no images, labels, but x, y"),
    "labels of floats": ({"images": IMAGES, "labels": CLASSES / 1}, r"labels: found float64 \[12\], beside images \[12, 8, 8, 3\]"),
    "too few labels": ({"images": IMAGES, "labels": CLASSES[1:]}, r"labels: found int64 \[11\]"),
    "labels in a column": ({"images": IMAGES, "labels": CLASSES[:, None]}, r"labels: found int64 \[12, 1\]"),
    "a pickle": ({"images": IMAGES.astype(object), "labels": CLASSES}, "cannot read .* Object arrays cannot be loaded when allow_pickle=False"),
    "levels of 16 bits": ({"images": IMAGES.astype(np.uint16), "labels": CLASSES}, r"reference 0: found an array uint16 \[8, 8, 3\]"),
    "a class below 0": ({"images": IMAGES, "labels": CLASSES - 1, "classes": np.array(["a", "b", "c"])}, "reference 0: class: found -1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_ARRAYS)
def test_arrays_that_cannot_be_used_are_refused_by_what_was_found(tmp_path, kind):
    arrays, message = NO_ARRAYS[kind]
    good = saved(tmp_path, ".npz", images=IMAGES[::-1], labels=CLASSES)
    np.savez(tmp_path / "bad.npz", **arrays)
    section = {"name": "arrays", "reference": str(tmp_path / "bad.npz"), "test": str(good)}
    with pytest.raises(InputError, match=message):
        described(validated(section))


@pytest.mark.parametrize(
    "names", [["b", "c"], ["b", "a", "c"], ["a", "b"], ["a", "b", "c", "d"]], ids=lambda names: "".join(names)
)
def test_test_arrays_of_other_classes_than_the_reference_are_refused(tmp_path, names):
    """Their labels count in their own classes, and would be taken for others of the reference's."""
    reference = saved(tmp_path, ".npz", images=IMAGES, labels=CLASSES, classes=np.array(["a", "b", "c"]))
    labels = CLASSES % len(names)
    test = saved(tmp_path, ".npz", images=IMAGES[::-1], labels=labels, classes=np.array(names))
    section = {"name": "arrays", "reference": str(reference), "test": str(test)}
    with pytest.raises(InputError, match=f"classes: found {', '.join(names)} of the test, and a, b, c of"):
        described(validated(section))


def test_an_array_file_that_is_cut_or_not_there_is_named(tmp_path):
    good = saved(tmp_path, ".npz", images=IMAGES, labels=CLASSES)
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:200])
    for name in ("cut.npz", "gone.npz", "gone.zarr"):
        section = {"name": "arrays", "reference": str(tmp_path / name), "test": str(good)}
        with pytest.raises(InputError, match=rf"dataset\.reference: cannot read '.*{name}' \("):
            described(validated(section))


# Of torchvision --------------------------------------------------------------------------------------------------


def idx(path: Path, array: np.ndarray) -> None:
    """A file in the format of MNIST."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    )


def fashion(root: Path, train: int = 40, test: int = 30) -> dict[str, np.ndarray]:
    """Random images in the files of Fashion-MNIST."""
    found = {}
    for part, count in (("train", train), ("t10k", test)):
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        idx(root / "FashionMNIST/raw" / f"{part}-images-idx3-ubyte", images)
        idx(root / "FashionMNIST/raw" / f"{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
        found[part] = images
    return found


def test_fashion_mnist_is_what_its_files_hold(tmp_path):
    images = fashion(tmp_path)
    section = {"name": "torchvision", "dataset": "FashionMNIST", "root": str(tmp_path), "test": 20}
    options, dataset = said(section), datasets.dataset(section)
    assert options.classes[0] == "T-shirt/top"
    assert options.pixels == 28
    assert options.test_counts() == dict.fromkeys(options.classes, 2)
    found = dataset.reference_images([3])
    assert found.names == [f"reference {i}" for i in (3, 13, 23, 33)]
    for k, i in enumerate((3, 13, 23, 33)):
        np.testing.assert_array_equal(found.images[k][0].numpy(), np.stack([images["train"][i]] * 3))
    tested = dataset.test_images()
    for (pixels, label, _), name in zip((tested.images[k] for k in range(20)), tested.names, strict=True):
        i = int(name.removeprefix("test "))
        np.testing.assert_array_equal(pixels.numpy(), np.stack([images["t10k"][i]] * 3))
        assert label == i % 10


@pytest.mark.parametrize(("name", "labels"), [("CIFAR10", "labels"), ("CIFAR100", "fine_labels")])
def test_cifar_is_what_its_files_hold(tmp_path, monkeypatch, name, labels):
    kind = getattr(torchvision.datasets, name)
    monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    count = 10 if name == "CIFAR10" else 100
    rows = np.random.default_rng(5).integers(0, 256, (count, 3072), dtype=np.uint8)
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    for k, (file, _) in enumerate(kind.train_list + kind.test_list):
        batch = {"data": rows ^ k, labels: list(range(count))}
        (folder / file).write_bytes(pickle.dumps(batch))
    classes = [f"class {c}" for c in range(count)]
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: classes}))
    section = {"name": "torchvision", "dataset": name, "root": str(tmp_path)}
    assert said(section).classes == classes
    dataset = datasets.dataset(section)
    reference, tested = dataset.reference_images([7]), dataset.test_images()
    assert reference.label.tolist() == [7] * len(kind.train_list)
    # Rows of the files are channels first.
    for k in range(len(kind.train_list)):
        np.testing.assert_array_equal(reference.images[k][0].numpy().ravel(), rows[7] ^ k)
    np.testing.assert_array_equal(tested.images[7][0].numpy().ravel(), rows[7] ^ len(kind.train_list))


def test_what_torchvision_does_not_find_is_downloaded_only_on_demand(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torchvision.datasets.SVHN, "download", lambda self: asked.append(self.root))
    section = {"name": "torchvision", "dataset": "SVHN", "root": str(tmp_path)}
    with pytest.raises(
        InputError, match=r"dataset\.root: found no SVHN .*; copy it there .* or set `dataset.download: true`"
    ):
        described(validated(section))
    assert asked == []
    with pytest.raises(InputError, match="found no SVHN"):
        described(validated(section | {"download": True}))
    assert asked == [str(tmp_path)]
    # A job is not told of it, and downloads nothing.
    assert "download" not in validated(section | {"download": True}).section("test", 0)


# In lists --------------------------------------------------------------------------------------------------------


@pytest.fixture
def lists(tmp_path) -> dict:
    """Two lists of pictures of two classes, in folders that say nothing of them."""
    rng = np.random.default_rng(3)
    for part in ("reference", "test"):
        rows = []
        for i in range(8):
            path = tmp_path / f"images/{i % 3}" / f"{part}{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
            rows.append(f"x,{path.relative_to(tmp_path / 'images')},{9 + i % 2}\n")
        (tmp_path / f"{part}.csv").write_text("split,path,label\n" + "".join(rows))
    return {
        "name": "csv", "reference": str(tmp_path / "reference.csv"), "test": str(tmp_path / "test.csv"),
        "root": str(tmp_path / "images"), "crop": 8, "resize": 10, "shards": 2,
    }  # fmt: skip


def test_listed_images_are_those_of_pillow_with_their_classes(lists, tmp_path):
    dataset = listed(**lists)
    # As text, 10 would be before 9.
    assert dataset.classes == ["9", "10"]
    found = dataset.reference_images()
    for k, (name, label) in enumerate(zip(found.names, found.label, strict=True)):
        pixels, c, _ = found.images[k]
        assert c == label == int(name[-5]) % 2
        expected = np.asarray(Image.open(tmp_path / "images" / name))[2:10, 1:9].transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels.numpy(), expected)
    assert sorted(found.names) == sorted(f"{i % 3}/reference{i}.png" for i in range(8))
    assert dataset.reference_images([1]).names == found.names[4:]
    options = validated(lists)
    assert options.test_counts() == {"9": 4, "10": 4}
    assert options.reference_count(100) == 8
    drawn = validated(lists | {"per_class": 3})
    assert [list(group.about) for group in drawn.reference_files(1)] == [
        listed(**lists, per_class=3, seed=1).reference_images([c]).names for c in range(2)
    ]


def test_another_file_or_class_in_a_list_is_noticed(lists, tmp_path):
    before = contents(lists, tmp_path)
    assert len(set(before["reference"])) == 2
    shutil.copy(tmp_path / "images/0/reference0.png", tmp_path / "images/0/spare.png")
    Image.new("RGB", (10, 12)).save(tmp_path / "images/0/reference0.png")
    after = contents(lists, tmp_path)
    assert [a == b for a, b in zip(before["reference"], after["reference"], strict=True)] == [False, True]
    assert before["test"] == after["test"]
    path = tmp_path / "test.csv"
    path.write_text(
        path.read_text().replace("test0.png,9", "test0.png,10").replace("test1.png,10", "test1.png,9")
    )
    assert contents(lists, tmp_path)["test"] != before["test"]
    (tmp_path / "images/0/reference0.png").unlink()
    with pytest.raises(ConfigError, match=r"dataset: found no file '.*reference0\.png', which is named"):
        contents(lists, tmp_path)
    shutil.copy(tmp_path / "images/1/test1.png", tmp_path / "images/0/reference0.png")
    with pytest.raises(
        ConfigError, match=r"same images are in '.*test.csv' and in '.*reference.csv', 1 pairs"
    ):
        contents(lists, tmp_path)


NO_LIST = {
    "no label": ("path\na.png\n", "found no column label in its first line, which has path"),
    "an empty label": ("path,label\na.png,\n", "line 2: label: found nothing"),
    "no path": ("path,label\n,cat\n", "line 2: path: found ''"),
    "a path from the root": ("path,label\n/a.png,cat\n", "line 2: path: found '/a.png', expected the path of a file from"),
    "an unquoted comma": ("path,label\na.png,cat,dog\n", "line 2: found another number of values"),
    "an image twice": ("path,label\na.png,cat\na.png,dog\n", "names 1 images more than once, expected each once: a.png"),
    "one class": ("path,label\na.png,cat\n", "found 1 labels in .*, expected at least two"),
    "nothing": ("", "found no column path, label"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_LIST)
def test_a_list_of_images_that_cannot_be_is_refused_by_line(lists, kind):
    content, message = NO_LIST[kind]
    Path(lists["reference"]).write_text(content)
    (line,) = validated(lists).problems()
    assert re.match(rf"dataset\.reference: .*{message}", line)


def test_a_list_that_is_not_there_or_has_other_classes_is_told(lists):
    with pytest.raises(ConfigError, match="dataset.test: cannot read 'gone.csv' .No such file or directory."):
        config.load(whole(lists | {"test": "gone.csv"}))
    path = Path(lists["test"])
    path.write_text(path.read_text().replace(",9\n", ",11\n"))
    with pytest.raises(
        ConfigError, match="dataset.test: class '11' has no reference images: found '11', allowed: 9, 10"
    ):
        config.load(whole(lists))


# Whole runs ------------------------------------------------------------------------------------------------------


def test_the_preset_of_cifar10_has_the_network_of_the_paper():
    """He et al. (2016), table 6: 0.27 million weights in 20 layers."""
    preset = yaml.safe_load((ROOT / "presets/cifar10.yaml").read_text())
    place, name = preset["classifier"]["model"].split(":")
    network = methods.loaded(f"{ROOT / place}:{name}")(**preset["classifier"]["options"])
    weighted = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert (len(weighted), sum(p.numel() for p in network.parameters())) == (20, 269_722)
    shapes = {}
    for layer in preset["classifier"]["layers"]:
        keep = lambda module, inputs, output, layer=layer: shapes.update({layer: list(output.shape)})  # noqa: E731
        network.get_submodule(layer).register_forward_hook(keep)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert list(shapes.values()) == [[2, 16, 32, 32]] * 4 + [[2, 32, 16, 16]] * 3 + [[2, 64, 8, 8]] * 3


@pytest.mark.slow
def test_a_dataset_from_a_file_runs_to_the_report_and_an_edit_reruns_what_reads_it(mine, tmp_path):
    mine()
    settings = whole(
        {"name": "../mine.py:pairs", "options": {"count": 24}, "shards": 2},
        classifier={"model": "small_resnet", "weights": "train", "layers": LAYERS, "training": {"epochs": 1}},
        figures={"samples": 1, "tsne_images": 5},
        metrics={"draws": 100, "fpr": [0.5]},
    )
    workflow = Workflow(tmp_path / "workflow", settings)
    ran = workflow.snakemake()
    assert ran.returncode == 0, ran.stdout
    assert (workflow.results / "report.html").is_file()
    stored = store.read(workflow.results / "images/original.zarr.zip")
    assert dict(stored.attrs)["classes"] == ["cat", "dog"]
    rng = np.random.default_rng([24, len("test")])
    plain = np.stack([rng.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(24)])
    np.testing.assert_array_equal(stored["images"][:], plain.transpose(0, 3, 1, 2))
    test_reruns.assert_reruns("", workflow)
    mine("# Another comment.\n")
    test_reruns.assert_reruns("", workflow)
    mine("OTHER = 1\n")
    test_reruns.assert_reruns(".*", workflow)
    mine()
    workflow.settings["dataset"]["test"] = 16
    made, everything = test_reruns.plan(workflow)
    kept = {name for name in everything if re.match(r"classifier|activations/reference|medoids", name)}
    assert made == everything - kept


@pytest.mark.slow
def test_the_preset_of_cifar10_runs_on_other_images_of_torchvision(tmp_path):
    """Of Fashion-MNIST, whose files torchvision does not compare with theirs, 10 reference images a class."""
    preset = yaml.safe_load((ROOT / "presets/cifar10.yaml").read_text())
    workflow = Workflow(tmp_path / "workflow", preset)
    fashion(workflow.folder / "data", train=100, test=60)
    preset["dataset"] |= {"dataset": "FashionMNIST", "test": 40, "size": 32}
    preset["classifier"]["training"]["epochs"] = 1
    preset["attacks"] = preset["attacks"][:2]
    preset["folds"] = {"count": 2}
    preset["detectors"] = [{"name": "knn", "method": "knn", "k": [5]}]
    ran = workflow.snakemake("<run>/verdicts.csv".replace("<run>", "results/cifar10"))
    assert ran.returncode == 0, ran.stdout
    rows = (workflow.results / "verdicts.csv").read_text().splitlines()
    assert len(rows) > 1
