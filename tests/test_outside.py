"""Attacks and detectors that are no part of this project: by reference, from files, from other libraries."""

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import asked
from conftest import ROOT, SMALL, Workflow
from detour import attacks, code, config, handover, images, methods, outside, pngs, store, strengths
from detour.attacks import adversarial, files
from detour.attacks.batch import Batch
from detour.classifiers import Classifier
from detour.config import ConfigError
from detour.detector import Detector
from detour.errors import InputError, RunError
from test_plan import ATTACKED, JUDGED, SCORED, assert_reruns, planned
from test_reruns import plan

pytestmark = pytest.mark.usefixtures("forked")

ATTACK = '''
from beside import by


def shifted(classifier, x, y, seeds, eps, share=1.0):
    """Brighter by a share of eps."""
    assert x.dtype.is_floating_point and len(x) == len(y) == len(seeds)
    return (x + by(share) * eps).clamp(0, 1)


def training(classifier, x, y, seeds):
    classifier.train()
    return x


def all_of(classifier, x, y, seeds, targeted):
    return x * 0 if targeted else x * 0 + 1
'''
EXAMPLES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", (ROOT / "docs/methods.md").read_text(), re.S))
DETECTOR = EXAMPLES["detector"]
BESIDE = "def by(share):\n    return share\n"


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """A folder with code of a user, which is the working folder."""
    for name, text in {"attack.py": ATTACK, "detector.py": DETECTOR, "beside.py": BESIDE}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    forget()
    return tmp_path


def forget() -> None:
    for remembered in (code._meaning, code.meaning, methods._of_file):
        remembered.cache_clear()
    sys.modules.pop("beside", None)


@pytest.fixture
def in_this_process(monkeypatch):
    """Ask in this process, which does without the start of another; `test_from_a_file_to_the_report` has that."""
    monkeypatch.setattr(
        outside,
        "_asked",
        lambda questions: {key: outside._described(q) for key, q in json.loads(questions).items()},
    )


def linear() -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    return Classifier(network, [0.5] * 3, [0.2] * 3).eval().requires_grad_(False)


PIXELS = np.random.default_rng(0).integers(40, 200, (6, 3, 8, 8), dtype=np.uint8)


def settings(**changed) -> dict:
    return SMALL | {"protocols": ["known"], "adaptive": {"methods": []}} | changed


SHIFT = {"name": "shift", "method": "attack.py:shifted", "eps": 8}
FAR = {"name": "far", "method": "detector.py:Far"}


def test_a_function_gets_pixels_and_what_it_asks_for_by_name(mine):
    shifted = adversarial(
        linear(), PIXELS, np.zeros(6, int), asked.attack(**SHIFT | {"options": {"share": 0.5}}), [0] * 6
    )
    np.testing.assert_array_equal(shifted, PIXELS + 4)
    for target, value in (("none", 255), ("dataset", 0)):
        entry = asked.attack("attack.py:all_of", target=target)
        assert (adversarial(linear(), PIXELS, np.zeros(6, int), entry, [0] * 6) == value).all()


def test_a_classifier_that_was_left_in_training_is_evaluated(mine):
    net = linear()
    adversarial(net, PIXELS, np.zeros(6, int), asked.attack("attack.py:training"), [0] * 6)
    assert not any(module.training for module in net.modules())


def test_what_a_function_returns_is_checked(mine):
    (mine / "wrong.py").write_text(
        "def shape(classifier, x, y, seeds):\n    return x[:1]\n\n"
        "def kind(classifier, x, y, seeds):\n    return x.numpy()\n\n"
        "def infinite(classifier, x, y, seeds):\n    return x / 0\n\n"
        "def range(classifier, x, y, seeds):\n    return x * 255\n\n"
        "def far(classifier, x, y, seeds):\n    return (x + 0.1).clamp(0, 1)\n"
    )

    def ran(name: str) -> None:
        adversarial(linear(), PIXELS, np.zeros(6, int), asked.attack(f"wrong.py:{name}", eps=8), [0] * 6)

    with pytest.raises(
        InputError, match=r"wrong.py:shape returned a tensor \[1, 3, 8, 8\], expected .*\[6, 3, 8, 8\]"
    ):
        ran("shape")
    with pytest.raises(InputError, match=r"wrong.py:kind returned a ndarray, expected a tensor"):
        ran("kind")
    with pytest.raises(InputError, match=r"wrong.py:infinite returned pixels that are not finite"):
        ran("infinite")
    with pytest.raises(InputError, match=r"wrong.py:range returned pixels from .* to 199, expected"):
        ran("range")
    with pytest.raises(RunError, match="changed an image by 26 in linf, its eps is 8"):
        ran("far")


def test_the_example_of_an_attack_stays_in_its_budget_and_draws_by_the_image(mine):
    (mine / "example.py").write_text(EXAMPLES["attack"])
    entry = asked.attack("example.py:wave", eps=8, options={"periods": 4})
    found = adversarial(linear(), PIXELS, np.zeros(6, int), entry, list(range(6)))
    assert np.abs(found.astype(int) - PIXELS).max() == 8
    apart = adversarial(linear(), PIXELS[3:], np.zeros(3, int), entry, [3, 4, 5])
    np.testing.assert_array_equal(found[3:], apart)


WRONG = {
    "no file": ({"method": "nowhere.py:f"}, r"attacks\[0\]: found no file 'nowhere.py' .* in .*, expected file.py:name"),
    "no function": ({"method": "attack.py:f"}, r"attacks\[0\]: found no 'f' in 'attack.py'"),
    "no package": ({"method": "no_such.module:f"}, r"attacks\[0\]: found no package 'no_such' .*; install it"),
    "no name": ({"method": "attack.py:"}, r"attacks\[0\].method: found 'attack.py:', expected file.py:name"),
    "options": (
        {"method": "attack.py:shifted", "options": {"shar": 1}},
        r"attacks\[0\]: attack.py:shifted cannot be called .*'shar'; correct `options`",
    ),
    "options that no process can be told": (
        {"method": "attack.py:shifted", "options": {"share": float("nan")}},
        r"attacks\[0\].options: found .*nan.*, expected numbers that are finite",
    ),
    "another key": ({"method": "attack.py:shifted", "steps": 3}, r"attacks\[0\].steps: .*allowed: .*options"),
    "no attack of that library": (
        {"method": "torchattacks", "attack": "PDG"},
        r"attacks\[0\]: found no 'PDG' in 'torchattacks'",
    ),
    "no option of that attack": (
        {"method": "torchattacks", "attack": "PGD", "options": {"step": 3}},
        r"attacks\[0\]: torchattacks:PGD: .*'step'; its `options` can be eps, alpha, steps, random_start",
    ),
    "no images": ({"method": "files", "path": "nowhere"}, r"attacks\[0\].path: found 'nowhere', and there is no such"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_called_is_told_before_any_job(mine, in_this_process, name):
    entry, expected = WRONG[name]
    with pytest.raises(ConfigError, match=expected):
        config.load(settings(attacks=[{"name": "a", "eps": 8} | entry]))


DETECTORS = {
    "neighbours of nobody": (DETECTOR.replace('["distances"]', '["neighbours"]'), "{}", r"detector.py:Far.nearest: found None, expected the number of neighbours, at least 1"),
    "fewer than none": (DETECTOR.replace("reads =", "nearest = -1\n    reads ="), "{}", "detector.py:Far.nearest: found -1"),
    "squeezed by nothing": (DETECTOR.replace('["distances"]', '["squeezed"]'), "{}", r"detector.py:Far.squeezers: found None, expected bits \(1 to 7\), median"),
    "squeezed by something else": (DETECTOR.replace("reads = [", "squeezers = {'blur': 3}\n    reads = ['squeezed', "), "{}", r"detector.py:Far.squeezers: found .*blur"),
    "squeezed by nothing at all": (DETECTOR.replace("reads = [", "squeezers = {'bits': 8}\n    reads = ['squeezed', "), "{}", r"detector.py:Far.squeezers: found .*bits"),
    "squeezed and not read": (DETECTOR.replace("reads =", "squeezers = {'bits': 3}\n    reads ="), "{}", r"detector.py:Far.squeezers: found .*bits"),
    "moved by nothing": (DETECTOR.replace('["distances"]', '["preprocessed"]'), "{}", r"detector.py:Far.step: found None, expected a size in pixels of 255"),
    "moved back": (DETECTOR.replace("reads = [", "step = -1\n    reads = ['preprocessed', "), "{}", r"detector.py:Far.step: found -1"),
    "no measure": (DETECTOR.replace("reads =", "measure = ('mean', 'l2')\n    reads ="), "{}", r"detector.py:Far.measure: found \('mean', 'l2'\), expected medoid or"),
    "reads": (DETECTOR.replace('"distances"]', '"distance"]'), "{}", r"detector.py:Far.reads: found \['distance'\], expected"),
    "methods": ("class Far:\n    reads = ['distances']\n", "{}", "detector.py:Far has no fit, score, state, restored"),
    "options": (DETECTOR, "{'hidden': 3}", "detector.py:Far cannot be made with its options: .*'hidden'"),
    "raises": (DETECTOR + "\n        1 / 0\n", "{}", "cannot import 'detector.py'.*unindent|Indentation"),
    "imports": ("import nothing_of_that_name\n" + DETECTOR, "{}", "cannot import 'detector.py'.*nothing_of_that_name"),
    "no Python": ("class Far(:\n", "{}", "detector.py: found what is no Python"),
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in DETECTORS if n != "raises"])
def test_what_is_no_detector_is_told_before_any_job(mine, in_this_process, name):
    text, options, expected = DETECTORS[name]
    (mine / "detector.py").write_text(text)
    forget()
    with pytest.raises(ConfigError, match=rf"detectors\[0\]: {expected}"):
        config.load(settings(detectors=[FAR | {"options": eval(options)}]))


def test_a_detector_has_images_squeezed_and_moved_as_it_asks(mine, in_this_process):
    reads = "reads = ['squeezed', 'preprocessed']\n    squeezers = {'bits': 3}\n    step = 1.5"
    (mine / "detector.py").write_text(DETECTOR.replace('reads = ["distances"]', reads))
    forget()
    found = planned(settings(detectors=[FAR]))
    assert found.squeeze("original").told.items() >= {"bits": [3], "median": []}.items()
    assert found.preprocess("original").told["magnitudes"] == [1.5]
    assert {"squeezed", "preprocessed"} <= set(found.train("far", 0, 0).reads)
    made = {path for path, _ in found.jobs()}
    assert {"<run>/squeezed/step.zarr.zip", "<run>/preprocessed/step.zarr.zip"} <= made


def test_code_is_asked_once_for_as_long_as_it_means_the_same(mine, monkeypatch):
    questions: list[str] = []

    def answer(question: str) -> dict:
        questions.append(question)
        return {key: outside._described(q) for key, q in json.loads(question).items()}

    monkeypatch.setattr(outside, "_asked", answer)
    chosen = settings(attacks=[SHIFT], detectors=[FAR])

    def load() -> None:
        code._meaning.cache_clear()
        config.load(chosen, mine / "kept.json")

    load()
    load()
    assert len(questions) == 1
    (mine / "attack.py").write_text("# A comment.\n" + ATTACK)
    load()
    assert len(questions) == 1
    (mine / "kept.json").write_text("{")
    load()
    (mine / "beside.py").write_text(BESIDE.replace("share\n", "share + 0\n"))
    load()
    assert len(questions) == 3


def edited(mine: Path, file: str, old: str, new: str):
    """The plan's state, before and after an edit."""
    chosen = settings(attacks=[SHIFT, *SMALL["attacks"]], detectors=[FAR, SMALL["detectors"][0]])

    def full() -> dict:
        forget()
        return {path: (job, code.meaning(ROOT / "workflow_scripts" / job.script, *job.methods))
                for path, job in planned(chosen).jobs()}  # fmt: skip

    before = full()
    path = mine / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return before, full()


OF_SHIFT = r"(images|activations|neighbours|distances/[^/]*)/shift"


@pytest.mark.parametrize(
    ("file", "old", "new", "pattern"),
    [
        ("attack.py", "by(share) * eps", "by(share) * eps * 0.5", rf"{OF_SHIFT}|{JUDGED}"),
        ("beside.py", "share\n", "share * 2\n", rf"{OF_SHIFT}|{JUDGED}"),
        ("attack.py", "Brighter", "Lighter", ""),
        ("detector.py", "self.power = power", "self.power = power + 1", rf"detectors/far/.*|{SCORED}"),
    ],
    ids=["an attack", "what it imports", "a docstring", "a detector"],
)
def test_an_edit_makes_exactly_its_own_again(mine, in_this_process, file, old, new, pattern):
    pattern = pattern.replace(rf"|{ATTACKED}", "")
    assert_reruns(pattern, *edited(mine, file, old, new))


def test_a_package_that_is_only_on_the_path_means_its_files(mine, monkeypatch):
    (mine / "own_package").mkdir()
    (mine / "own_package/__init__.py").write_text("")
    (mine / "own_package/attack.py").write_text(ATTACK.replace("beside", "own_package.beside"))
    (mine / "own_package/beside.py").write_text(BESIDE)
    monkeypatch.syspath_prepend(mine)
    before = code.outside("own_package.attack:shifted")
    (mine / "own_package/beside.py").write_text(BESIDE.replace("share\n", "share * 3\n"))
    code._meaning.cache_clear()
    assert code.outside("own_package.attack:shifted") != before


def test_an_installed_package_means_its_release():
    from importlib.metadata import version

    assert code.outside("torchattacks:PGD") == f"torchattacks {version('torchattacks')}"
    # Called otherwise than what installed it.
    assert code.outside("sklearn.metrics:f") == f"scikit-learn {version('scikit-learn')}"


PLAIN = {
    "torchattacks": ("torchattacks", "FGSM", {}),
    "foolbox": ("foolbox", "LinfFastGradientAttack", {"random_start": False}),
    "art": ("art", "FastGradientMethod", {}),
}


@pytest.mark.parametrize("name", PLAIN)
def test_fgsm_of_other_libraries_is_this_project_s(name):
    method, attack, options = PLAIN[name]
    net = linear()
    with torch.no_grad():
        y = net(torch.from_numpy(PIXELS).float() / 255).argmax(1).numpy()
    theirs = adversarial(net, PIXELS, y, asked.attack(method, attack=attack, options=options, eps=8), [0] * 6)
    ours = adversarial(net, PIXELS, y, asked.attack("fgsm", eps=8, target="none"), [0] * 6)
    np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize(
    ("entry", "targeted"),
    [
        ({"method": "torchattacks", "attack": "PGD", "eps": 8, "options": {"steps": 20, "alpha": 1 / 255}}, True),
        ({"method": "foolbox", "attack": "LinfPGD", "eps": 16, "options": {"steps": 60}}, True),
        ({"method": "art", "attack": "ProjectedGradientDescent", "eps": 8, "options": {"eps_step": 1 / 255, "max_iter": 20}}, True),
        ({"method": "foolbox", "attack": "L2CarliniWagnerAttack", "norm": "l2", "options": {"steps": 200, "stepsize": 0.05, "binary_search_steps": 4}}, True),
        ({"method": "autoattack", "eps": 8}, False),
    ],
    ids=lambda value: value["method"] + value.get("attack", "") if isinstance(value, dict) else "",
)  # fmt: skip
def test_attacks_of_other_libraries_hit_and_draw_the_same_again(entry, targeted):
    net = linear()
    with torch.no_grad():
        seen = net(torch.from_numpy(PIXELS).float() / 255).argmax(1).numpy()
    y = (seen + 1) % 4 if targeted else seen
    attack = asked.attack(**entry, target="dataset" if targeted else "none")
    found = adversarial(net, PIXELS, y, attack, list(range(6)))
    np.testing.assert_array_equal(found, adversarial(net, PIXELS, y, attack, list(range(6))))
    with torch.no_grad():
        now = net(torch.from_numpy(found).float() / 255).argmax(1).numpy()
    # Of the genuine ones, none.
    assert ((now == y) == targeted).mean() > 0.6


@pytest.fixture
def original(tmp_path, made) -> Path:
    path = tmp_path / "original.zarr.zip"
    images.collect(asked.digits(test=12, size=8), path, seed=0, workers=0, made=made)
    return path


@pytest.fixture
def small_net(tmp_path, made) -> Path:
    from detour import classifiers

    out = tmp_path / "classifier.pt"
    classifiers.prepare(
        out, model="small_resnet", weights="untrained", mean=[0.5] * 3, std=[0.2] * 3, classes=10, made=made
    )
    return out


def perturbed(net: Path, original: Path, out: Path, made, **entry) -> np.ndarray:
    attacks.perturb(
        net,
        original,
        out,
        attack=asked.attack("files", **entry),
        seed=0,
        batch_size=5,
        device="cpu",
        made=made,
    )
    return store.read(out)["images"][:]


def test_images_go_out_as_files_and_come_back_by_name_or_in_order(original, small_net, tmp_path, made):
    names, pixels = store.read(original).attrs["names"], store.read(original)["images"][:]
    changed = (pixels.astype(int) + 3).clip(0, 255).astype(np.uint8)
    # As if the store of an attack: `export` reads its images alone.
    shutil.copy(original, tmp_path / "fgsm.zarr.zip")
    pngs.export(original, original, tmp_path / "pngs")
    for name, image in zip(names, pixels, strict=True):
        read = np.asarray(Image.open(tmp_path / "pngs" / f"{name}.png"))
        np.testing.assert_array_equal(read, image.transpose(1, 2, 0))
        Image.fromarray((read.astype(int) + 3).clip(0, 255).astype(np.uint8)).save(
            tmp_path / "pngs" / f"{name}.png"
        )
    np.save(tmp_path / "in_order.npy", changed)
    np.savez(tmp_path / "last.npz", images=changed.transpose(0, 2, 3, 1), other=[1])
    for i, path in enumerate(("pngs", "in_order.npy", "last.npz")):
        out = tmp_path / f"a{i}.zarr.zip"
        found = perturbed(small_net, original, out, made, name=f"a{i}", path=str(tmp_path / path), eps=3)
        np.testing.assert_array_equal(found, changed)
    with pytest.raises(RunError, match="attack 'a': changed an image by 3 in linf, its eps is 2"):
        perturbed(small_net, original, tmp_path / "a.zarr.zip", made, path=str(tmp_path / "pngs"), eps=2)


def test_images_from_elsewhere_that_do_not_fit_are_told_by_name(original, small_net, tmp_path, made):
    name = store.read(original).attrs["names"][0]
    folder = tmp_path / "there"
    folder.mkdir()

    def refused(path: Path, expected: str) -> None:
        with pytest.raises((InputError, RunError), match=expected):
            perturbed(small_net, original, tmp_path / "a.zarr.zip", made, path=str(path))

    refused(folder, f"found no image for the test image '{name}', expected '{name}' or '{name}.png'")
    Image.new("RGB", (9, 8)).save(folder / f"{name}.png")
    refused(folder, r"found 9 x 8 pixels, expected 8 x 8")
    (folder / f"{name}.png").write_bytes(b"no image")
    refused(folder, rf"{name}.png: ")
    np.save(tmp_path / "few.npy", np.zeros((3, 3, 8, 8), np.uint8))
    refused(tmp_path / "few.npy", r"found uint8 \[3, 3, 8, 8\], expected uint8 \[12, 3, 8, 8\]")
    np.save(tmp_path / "float.npy", np.zeros((12, 3, 8, 8), np.float32))
    refused(tmp_path / "float.npy", r"found float32 .* expected uint8")
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    refused(tmp_path / "object.npy", "found no file of NumPy")


def test_names_that_differ_by_their_ending_stay_apart():
    assert pngs.files(["a/x.jpg", "a/x.bmp", "b/y.JPEG", "digit 3"]) == [
        "a/x.jpg.png", "a/x.bmp.png", "b/y.png", "digit 3.png",
    ]  # fmt: skip
    with pytest.raises(InputError, match="found an image called '../x.png'"):
        pngs.files(["../x.png"])
    with pytest.raises(InputError, match="found two images called 'x.png'"):
        pngs.files(["x.png", "x.png"])


@given(st.lists(st.from_regex(r"[ab](\.(png|jpg)){0,3}", fullmatch=True), unique=True, max_size=8))
def test_no_file_is_that_of_two_images_nor_another_image_s_name(names):
    found = pngs.files(names)
    assert len(set(found)) == len(names)
    for name, file in zip(names, found, strict=True):
        assert file == name or file not in names


@pytest.mark.parametrize("names", [["c/a.jpg", "c/a.png"], ["../photos/a.png"], ["{here}/photos/a.png"]])
def test_no_image_is_read_in_place_of_another(tmp_path, names):
    """Beside photos that are called by paths, and among names that differ by their ending alone."""
    names = [name.format(here=tmp_path) for name in names]
    for place in ("adv/c/a.png", "photos/a.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / place)
    path = str(tmp_path / "adv")
    shape = torch.Size((3, 8, 8))
    batch = Batch(torch.zeros(1, *shape), torch.zeros(1), [0], lambda c: None, slice(0, 1), len(names), names)
    with pytest.raises(InputError, match="found (no|an) image"):
        files.read(None, batch, asked.attack("files", path=path))


def test_images_from_elsewhere_that_are_the_originals_are_told(original, small_net, tmp_path, made, caplog):
    pngs.export(original, original, tmp_path / "pngs")
    perturbed(small_net, original, tmp_path / "a.zarr.zip", made, path=str(tmp_path / "pngs"))
    assert "12 of 12 images are as they were" in caplog.text
    assert "has the originals in their place" in caplog.text


def test_a_list_of_eps_is_an_attack_at_each():
    several = [
        {"name": "weak", "method": "noise", "eps": 4},
        {"name": "pgd", "method": "pgd", "norm": "l2", "eps": [2, 0.5], "steps": 3},
    ]
    run = config.load(settings(attacks=several))
    apart = [
        several[0],
        {"name": "pgd-2", "method": "pgd", "norm": "l2", "eps": 2, "steps": 3},
        {"name": "pgd-0_5", "method": "pgd", "norm": "l2", "eps": 0.5, "steps": 3},
    ]
    assert run == config.load(settings(attacks=apart))
    assert [[a.name for a in found] for found in strengths.together(run.attacks)] == [["pgd-0_5", "pgd-2"]]


def test_the_figure_of_strengths_is_told_them_in_their_order():
    """As jobs are told: in JSON whose keys are sorted, where 16 would stand before 2."""
    entry = {"name": "fgsm", "method": "fgsm", "eps": [16, 2, 8]}
    told = json.loads(handover.text(planned(settings(attacks=[entry])).figures["strengths"].told))
    assert told["groups"] == [[["fgsm-2", 2], ["fgsm-8", 8], ["fgsm-16", 16]]]


def test_errors_of_several_strengths_are_told_at_the_entry_that_was_written():
    several = [
        {"name": "pgd", "method": "fgsm", "eps": [1, 2, 3]},
        {"name": "b", "method": "iterative", "eps": [2, 4], "step": 3},
        {"name": "c", "method": "iterative", "eps": [2, -4]},
    ]
    with pytest.raises(ConfigError) as raised:
        config.load(settings(attacks=several))
    assert str(raised.value).count("attacks[2].eps: found -4") == 1
    with pytest.raises(
        ConfigError, match=r"attacks\[1\].step: found 3 in 'b-2', allowed: at most its eps, 2"
    ):
        config.load(settings(attacks=several[:2]))


def test_unknown_needs_attacks_of_two_families():
    with pytest.raises(ConfigError, match=r"protocols\[0\]: found 'unknown', .* all are of 'fgsm'"):
        config.load(settings(attacks=[{"name": "a", "method": "fgsm", "eps": [2, 4]}], protocols=["unknown"]))


WAVERING = """
from sklearn.metrics import roc_auc_score
import numpy as np


class Wavering:
    reads = ["activations", "squeezed"]
    squeezers = {"bits": 3}

    def fit(self, train, validation, seed):
        return [{"validation_auc": roc_auc_score(validation.adversarial, self.score(validation))}]

    def score(self, versions):
        return np.abs(versions.logits - versions.squeezed("bits", 3)).sum(1).astype(float)

    def state(self):
        return {}

    def restored(self, state):
        return self
"""


@pytest.mark.slow
def test_a_bundle_of_a_detector_from_outside_squeezes_new_images(tmp_path, monkeypatch):
    wavering = {"name": "wavering", "method": "wavering.py:Wavering"}
    workflow = Workflow(
        tmp_path / "run", settings(detectors=[wavering], attacks=SMALL["attacks"][:1], seeds=[0])
    )
    (workflow.folder / "wavering.py").write_text(WAVERING)
    ran = workflow.snakemake("bundles", "results/small/summary.csv")
    assert ran.returncode == 0, ran.stdout
    monkeypatch.chdir(workflow.folder)
    bundle = Detector.load(
        workflow.results / "detectors/wavering/bundle", device="cpu", trusted=["wavering.py:Wavering"]
    )
    table = workflow.table("scores")
    for name in ("original", "step"):
        images = store.read(workflow.results / f"images/{name}.zarr.zip")["images"][:]
        rows = table[(table["set"] == name) & (table["role"] == "test")]
        np.testing.assert_allclose(bundle.seen(images).scores[rows["source"], 0], rows["score"], rtol=1e-5)


@pytest.mark.slow
def test_from_a_file_to_the_report_and_an_edit_reruns_its_own(tmp_path):
    """Outside the repository, through the configuration alone; and the same installed as a package."""
    chosen = copy.deepcopy(SMALL) | {
        "attacks": [SHIFT | {"eps": 32}, *SMALL["attacks"]],
        "detectors": [FAR | {"options": {"power": 2}}],
        "protocols": ["known"],
        "seeds": [0],
        "adaptive": {"methods": []},
    }
    workflow = Workflow(tmp_path / "run", chosen)
    for name, text in {"attack.py": ATTACK, "detector.py": DETECTOR, "beside.py": BESIDE}.items():
        (workflow.folder / name).write_text(text)
    ran = workflow.snakemake()
    assert ran.returncode == 0, ran.stdout
    original, shifted = (
        store.read(workflow.results / f"images/{name}.zarr.zip")["images"][:]
        for name in ("original", "shift")
    )
    np.testing.assert_array_equal(shifted, (original.astype(int) + 32).clip(0, 255))
    summary = pd.read_csv(workflow.results / "summary.csv", dtype={"detector": str})
    assert set(summary["detector"]) == {"far"}
    again, _ = plan(workflow)
    assert not again
    beside = workflow.folder / "detector.py"
    beside.write_text(DETECTOR.replace("** self.power\n", "** (self.power / 2)\n"))
    again, _ = plan(workflow)
    trained = {name for name in again if name.startswith("detectors/")}
    assert trained
    assert all(name.startswith("detectors/far/") for name in trained)
    assert not any(name.startswith(("images", "activations", "distances")) for name in again)
    # Installed: the same numbers.
    package = tmp_path / "package/detour_mine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "detector.py").write_text(DETECTOR)
    (package.parent / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "detour-mine"\nversion = "1.2.3"\n'
    )
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--target", str(site), str(package.parent)],
        check=True, capture_output=True,
    )  # fmt: skip
    before = (workflow.results / "scores.csv").read_bytes()
    workflow.settings["detectors"][0]["method"] = "detour_mine.detector:Far"
    ran = workflow.snakemake(PYTHONPATH=str(site))
    assert ran.returncode == 0, ran.stdout
    assert (workflow.results / "scores.csv").read_bytes() == before
    assert "rule attack:" not in ran.stdout
