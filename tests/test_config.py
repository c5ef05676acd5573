import copy
import itertools
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from jsonschema import Draft202012Validator
from sklearn.datasets import load_digits
from torchvision.models import Inception_V3_Weights

import asked
from conftest import INTERPRETER
from detour import adaptive, classifiers, config, console, manifest
from detour.config import ConfigError
from detour.options import attacks, detectors, documented
from detour.options.datasets import digits
from detour.protocols import PROTOCOLS

pytestmark = pytest.mark.usefixtures("forked")

ROOT = Path(__file__).parents[1]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
LEAST = {
    "run": "least",
    "dataset": {"name": "digits"},
    "classifier": {"model": "resnet18", "weights": "train"},
    "attacks": [{"name": "step", "method": "fgsm", "eps": 8}],
    "detectors": [{"name": "lstm", "method": "lstm"}],
}

UNBOUNDED = ("carlini_wagner", "hop_skip_jump")
PGD = {"name": "x", "method": "pgd", "eps": 32}


def load(settings):
    return config.load(settings).model_dump()


def changed(*path_and_value):
    """The default run with one key changed, or added."""
    *path, last, value = path_and_value
    settings = copy.deepcopy(DEFAULT)
    inner = settings
    for key in path:
        inner = inner[key]
    inner[last] = value
    return settings


def keys(value, prefix=""):
    """Every key of a configuration, entries of lists by their kind."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from keys(inner, f"{prefix}.{name}".lstrip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for entry in value:
            yield from keys(entry, f"{prefix}[{entry['method']}]")
    else:
        yield prefix


def test_config_yaml_has_every_key_explained():
    assert set(keys(load(DEFAULT))) == set(keys(DEFAULT))
    lines = (ROOT / "config.yaml").read_text().splitlines()
    for key in set(re.findall(r"^\| `(?:\w+\.)*(\w+)` \| `(?!\w+: |from )", documented.table(), re.M)):
        assert any(re.search(rf"\b{key}: .*#", line) for line in lines), f"{key} is not explained"


def test_config_yaml_has_the_defaults_where_it_says_nothing_else():
    """All but the eps of digits, which has none, and the step and the protocols, whose comments say."""
    found = load(DEFAULT)
    least = load(LEAST)
    least["classifier"] |= {key: found["classifier"][key] for key in ("model", "weights")}
    for section in (
        "dataset",
        "classifier",
        "folds",
        "metrics",
        "seeds",
        "figures",
        "compare",
        "dask",
        "seed",
        "device",
        "batch_size",
        "threads",
        "precision",
    ):
        assert found[section] == least[section]
    assert found["detectors"][0] == least["detectors"][0]


def test_what_is_left_out_takes_the_defaults_and_the_input_stays():
    before = copy.deepcopy(LEAST)
    found = load(LEAST)
    assert before == LEAST
    assert found["classifier"]["training"] == {"epochs": 5, "batch_size": 64, "lr": 0.002, "start": None}
    assert found["folds"] == {"count": 5, "stratify": "class"}
    assert found["attacks"][0]["target"] == "dataset"


@pytest.mark.parametrize(
    "scheduler", ["threads", "processes", "slurm", "tcp://node-7.cluster:8786", "tls://[fe80::1]:8786"]
)
def test_every_scheduler_of_dask_can_be_named(scheduler):
    assert load({**LEAST, "dask": {"scheduler": scheduler}})["dask"] == {
        "scheduler": scheduler, "workers": 2, "options": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (changed("sed", 1), "sed: found 'sed', allowed: run, seed,.*did you mean `seed`"),
        (changed("attacks", 0, "epss", 8), r"attacks\[0\].epss: found 'epss'.*did you mean `eps`"),
        (changed("attacks", 0, "method", "fgms"), r"attacks\[0\].method: found 'fgms', allowed: art, autoattack, carlini_wagner, fgsm, .*; did you mean `fgsm`"),
        (changed("attacks", 1, "steps", 3), r"attacks\[1\].steps: found 'steps', allowed: name, method, family, eps"),
        (changed("attacks", 3, "step", 33), r"attacks\[3\].step: found 33 in 'iterative_target', allowed: at most its eps, 32"),
        (changed("attacks", 3, "target", "non"), r"attacks\[3\].target: found 'non', allowed: dataset, random, none; did you mean `none`"),
        (changed("attacks", 3, PGD | {"step": 33}), r"attacks\[3\].step: found 33 in 'x', allowed: at most its eps, 32"),
        (changed("attacks", 3, PGD | {"eps": 2.5}), r"attacks\[3\].eps: found 2.5 in 'x', allowed: with `norm: linf` a whole number of pixels up to 255"),
        (changed("attacks", 3, PGD | {"eps": 256}), r"attacks\[3\].eps: found 256 in 'x', allowed: with `norm: linf`"),
        (changed("attacks", 3, PGD | {"norm": "l1"}), r"attacks\[3\].norm: found 'l1', allowed: linf, l2"),
        (changed("attacks", 3, {"name": "x", "method": "carlini_wagner", "eps": 8}), r"attacks\[3\].eps: found 'eps', allowed: name, method, family, target, steps, searches"),
        (changed("compare", ["other", "digits"]), r"compare\[1\]: found 'digits', this run, which is always the first; leave it out"),
        (changed("compare", ["other", "other"]), "compare: found .*, expected no entry twice"),
        (changed("compare", ["results/other"]), r"compare\[0\]: found 'results/other', expected letters, digits and some of - _ \."),
        (changed("compare", "other"), "compare: found 'other', expected a list"),
        (changed("attacks", 2, "name", "noise"), "attacks: the name 'noise' stands 2 times"),
        (changed("attacks", 2, "name", "original"), "attacks: the name 'original' is taken"),
        (changed("attacks", 2, "name", "all"), "attacks: the name 'all' is taken"),
        (changed("attacks", 2, "name", "mean"), "attacks: the name 'mean' is taken"),
        (changed("seed", 2**32), "seed: found 4294967296, expected at most 4294967295"),
        (changed("attacks", 0, "eps", 0.5), r"attacks\[0\].eps: found 0.5, expected integer"),
        (changed("attacks", 0, "eps", 300), r"attacks\[0\].eps: found 300, expected at most 255"),
        (changed("attacks", 0, {"name": "x", "method": "fgsm"}), r"attacks\[0\]: `eps` is missing"),
        (changed("attacks", []), r"attacks: found \[\], expected at least 1 entries"),
        (changed("detectors", 0, "lr", "1e-3"), r"detectors\[0\].lr: found the text '1e-3', expected a number;.*write 0.001"),
        (changed("detectors", 1, "name", "lstm"), "detectors: the name 'lstm' stands 2 times"),
        (changed("detectors", 1, {"name": "lid", "method": "lid", "batch": 400}), r"detectors\[1\].batch: found 400, allowed: at most 399, as there are 400 training images"),
        (changed("detectors", 1, {"name": "lid", "method": "lid", "batch": 20}), r"detectors\[1\].k: found 50 in 'lid', allowed: at most its batch, 20"),
        (changed("detectors", 0, "metric", "l1"), r"detectors\[0\].metric: found 'l1', allowed: l2, cosine"),
        (changed("device", "gpu"), "device: found 'gpu', allowed: auto, cpu, cuda"),
        (changed("dataset", "name", "digit"), "dataset.name: found 'digit', allowed: arrays, csv, digits, image_folder, nips2017, torchvision; did you mean `digits`"),
        (changed("dataset", "digits"), "dataset: found 'digits', expected a mapping with `name`"),
        (changed("dataset", "shards", 11), "dataset.shards: found 11, allowed: at most one per class, 10"),
        (changed("folds", "count", 25), r"folds.count: found 25.*\(digits\) has 48; allowed: at most 24"),
        (changed("classifier", "weights", "there.pt"), "classifier.weights: found 'there.pt', and no such file"),
        (changed("figures", "attack", "nois"), "figures.attack: found 'nois'.*did you mean `noise`"),
        (changed("run", "a/b"), "run: found 'a/b', expected letters"),
        (changed("dask", "scheduler", "thread"), "dask.scheduler: found 'thread', allowed: threads, processes, slurm, tcp://host:port; did you mean `threads`"),
        (changed("dask", "scheduler", "tcp://node7"), "dask.scheduler: found 'tcp://node7', allowed: threads, processes, slurm, tcp://host:port"),
        (changed("dask", "workers", 0), "dask.workers: found 0, expected at least 1"),
    ],
)  # fmt: skip
def test_an_error_names_key_value_what_is_allowed_and_the_nearest_spelling(settings, message):
    with pytest.raises(ConfigError, match=message):
        load(settings)


def test_everything_that_is_wrong_is_said_at_once():
    settings = changed("seed", -1)
    settings["device"] = "gpu"
    del settings["run"]
    with pytest.raises(
        ConfigError, match=r"(?s)(?=.*seed: found -1)(?=.*device: found)(?=.*`run` is missing)"
    ):
        load(settings)


def test_what_is_damage_goes_behind_a_preset_of_photographs(monkeypatch):
    """No noise is an attack there, and each kind of damage is unknown in turn. Its images may be any."""
    monkeypatch.chdir(ROOT)
    behind = [
        yaml.safe_load((ROOT / f"presets/{name}.yaml").read_text()) for name in ("imagenette", "damage")
    ]
    run = load({**behind[0], **behind[1], "dataset": {"name": "digits", "test": 500}})
    assert {attack["method"] for attack in run["attacks"]} == {"fgsm", "iterative"}
    told = [each["name"] for each in run["detectors"] if each["controls"]]
    assert told == ["fisher_controls", "fisher_controls_10"]
    families = {control["family"] or control["method"] for control in run["controls"]}
    assert {"weak_noise", "strong_noise"} < families
    assert len(families) == 16


def test_weaker_attacks_are_a_family_of_their_own(monkeypatch):
    """So that `unknown` has detectors that know the strong ones alone."""
    monkeypatch.chdir(ROOT)
    behind = [
        yaml.safe_load((ROOT / f"presets/{name}.yaml").read_text())
        for name in ("imagenette", "damage", "weak")
    ]
    merged = behind[0] | behind[1] | behind[2] | {"dataset": {"name": "digits", "test": 500}}
    run = load(merged)
    weak = {attack["eps"] for attack in run["attacks"] if attack["family"] == "weak_iterative"}
    assert weak == {2, 4, 8}
    assert {attack["eps"] for attack in run["attacks"]} - weak == {16}
    assert not run["adaptive"]["methods"]


def test_a_preset_alone_is_told_once_what_it_goes_behind():
    with pytest.raises(ConfigError) as caught:
        load(yaml.safe_load((ROOT / "presets/evaluation.yaml").read_text()))
    (line,) = str(caught.value).splitlines()[1:]
    assert "`run`, `dataset`, `classifier`, `attacks` is missing" in line
    assert "--configfile config.yaml PRESET" in line


@pytest.fixture
def folders(tmp_path):
    for part, classes in (("reference", "abc"), ("test", "ab")):
        for name in classes:
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(8):
                (tmp_path / part / name / f"{i}.png").touch()
    return {
        "name": "image_folder",
        "reference": str(tmp_path / "reference"),
        "test": str(tmp_path / "test"),
        "crop": 8,
        "shards": 3,
    }


def of(folders, **other):
    return LEAST | {"dataset": folders, "folds": {"count": 4}} | other


def test_folders_are_looked_at_before_any_job(folders):
    load(of(folders))
    with pytest.raises(ConfigError, match=r"folds.count: found 5.* \([ab]\) has 8; allowed: at most 4"):
        load(of(folders, folds={"count": 5}))
    load(of(folders, folds={"count": 5, "stratify": "none"}))
    with pytest.raises(ConfigError, match="dataset.shards: found 4"):
        load(of(folders | {"shards": 4}))
    with pytest.raises(ConfigError, match=r"dataset.test: cannot read '.*nowhere'"):
        load(of(folders | {"test": folders["test"] + "nowhere"}))
    with pytest.raises(ConfigError, match="dataset.resize: found 4, allowed: at least `crop`, 8"):
        load(of(folders | {"resize": 4}))
    with pytest.raises(ConfigError, match="folds.count: found 9, allowed: at most half the 16 test images"):
        load(of(folders, folds={"count": 9, "stratify": "none"}))
    other = Path(folders["test"]) / "cc"
    other.mkdir()
    with pytest.raises(ConfigError, match="dataset.test: found no image in '.*cc'"):
        load(of(folders))
    (other / "nested").mkdir()
    for i in range(8):
        (other / "nested" / f"{i}.JPG").touch()
    with pytest.raises(ConfigError, match="class 'cc' has no reference images.*did you mean `c`"):
        load(of(folders, folds={"count": 2, "stratify": "none"}))


@pytest.fixture
def nips(tmp_path):
    """Two classes of reference images and twelve listed images, as a section."""
    for name in "ab":
        (tmp_path / "reference" / name).mkdir(parents=True)
        (tmp_path / "reference" / name / "0.JPEG").touch()
    (tmp_path / "images").mkdir()
    for i in range(12):
        (tmp_path / "images" / f"{i}.png").touch()
    rows = [f"{i},{1 + i % 2},{2 - i % 2}" for i in range(12)]
    (tmp_path / "images.csv").write_text("\n".join(["ImageId,TrueLabel,TargetClass", *rows]))
    return {
        "name": "nips2017",
        "reference": str(tmp_path / "reference"),
        "test": str(tmp_path / "images"),
        "shards": 2,
    }


def test_nips2017_is_read_by_its_list(nips, tmp_path):
    settings = {**LEAST, "dataset": nips}
    assert load(settings | {"folds": {"count": 3}})["dataset"]["crop"] == 299
    with pytest.raises(ConfigError, match=r"a class of the test images \(1\) has 6; allowed: at most 3"):
        load(settings)
    (tmp_path / "images" / "3.png").unlink()
    (tmp_path / "images" / "5.png").unlink()
    with pytest.raises(ConfigError, match=r"lacks 2 images of its list: 3\.png, 5\.png; .*missing: skip"):
        load(settings)
    skipping = config.load(settings | {"dataset": {**nips, "missing": "skip"}, "folds": {"stratify": "none"}})
    # The first is of `weights: train`.
    assert config.warnings(skipping)[1:] == [
        "dataset.test: 2 of 12 listed images are missing and left out: 3.png, 5.png"
    ]
    with pytest.raises(ConfigError, match="allowed: at most half the 10 test images"):
        load(settings | {"dataset": {**nips, "missing": "skip"}, "folds": {"stratify": "none", "count": 6}})


def test_nips2017_needs_all_classes_and_its_list(nips, tmp_path):
    settings = {**LEAST, "dataset": nips, "folds": {"stratify": "none"}}
    listing = tmp_path / "images.csv"
    listing.write_text(listing.read_text().replace("\n7,2,1", "\n7,2,1000"))
    with pytest.raises(ConfigError, match=r"1 images have .* beyond the 2 classes of the reference: 7\.png"):
        load(settings)
    listing.unlink()
    with pytest.raises(ConfigError, match="found none of images.csv, dev_dataset.csv"):
        load(settings)
    with pytest.raises(ConfigError, match="cannot read '.*nowhere.csv'"):
        load({**settings, "dataset": {**nips, "labels": str(tmp_path / "nowhere.csv")}})


def test_the_preset_of_the_paper_is_the_paper_s_setting():
    preset = yaml.safe_load((ROOT / "presets" / "imagenet.yaml").read_text())
    with pytest.raises(ConfigError, match="dataset.reference: cannot read 'data/ILSVRC2012/train'"):
        load(preset)
    assert [attack["eps"] for attack in preset["attacks"]] == [16] * 4
    assert preset["attacks"][3] | {"name": ""} == {
        "name": "", "method": "iterative", "eps": 16, "steps": 20, "step": 1, "target": "dataset",
    }  # fmt: skip
    weights = Inception_V3_Weights[preset["classifier"]["weights"]]
    assert [preset["dataset"]["resize"]] == weights.transforms().resize_size
    assert [preset["dataset"]["crop"]] == weights.transforms().crop_size
    assert (load(LEAST)["classifier"]["mean"], load(LEAST)["classifier"]["std"]) == (
        weights.transforms().mean,
        weights.transforms().std,
    )


def test_every_method_has_defaults_that_an_attack_can_be_made_of():
    least = {entry["method"]: entry for entry in asked.attack_entries()}
    for attack in config.load({**LEAST, "attacks": list(least.values())}).attacks:
        assert attack.targeted == (getattr(attack, "target", "none") != "none")
        assert (attack.budget is None) == (attack.method in UNBOUNDED)
        assert attacks.attack(least[attack.method]) == attack


def test_the_schema_that_editors_use_is_that_of_the_options():
    stored = json.loads((ROOT / "schemas/config.schema.json").read_text())
    assert stored == documented.schema(), "run `make schema`"
    for path in [ROOT / "config.yaml", *(ROOT / "presets").glob("*.yaml")]:
        (line,) = re.findall("^# yaml-language-server: [$]schema=(.*)$", path.read_text(), re.M)
        assert (path.parent / line).resolve() == ROOT / "schemas/config.schema.json"


def test_the_schema_takes_what_the_options_take():
    """By another validator: an editor would mark a preset that runs."""
    validator = Draft202012Validator(json.loads((ROOT / "schemas/config.schema.json").read_text()))
    validator.check_schema(validator.schema)
    validator.validate(DEFAULT)
    for wrong in (changed("seed", -1), changed("attacks", 0, "epss", 8), changed("detectors", 0, "lr", "x")):
        assert list(validator.iter_errors(wrong))


def test_in_l2_a_budget_is_the_whole_image_s():
    found = load(LEAST | {"attacks": [PGD | {"norm": "l2", "eps": 612.5}]})["attacks"][0]
    assert (found["eps"], found["step"], found["random_start"]) == (612.5, None, True)


@pytest.mark.parametrize("eps", [2, 4, 8, 16])
def test_presets_of_strength_put_their_attacks_into_any_run(eps):
    preset = yaml.safe_load((ROOT / "presets" / f"eps-{eps}.yaml").read_text())
    assert list(preset) == ["attacks"]
    found = load(DEFAULT | preset)["attacks"]
    assert {attack["eps"] for attack in found} == {eps}
    assert all(attack["name"].endswith(f"_{eps}") for attack in found)
    assert {(attack["method"], attack.get("target")) for attack in found} == {
        ("noise", None),
        *itertools.product(("fgsm", "iterative", "mifgsm", "pgd"), ("none", "dataset")),
    }


def test_untrained_weights_are_told_of():
    untrained = {**LEAST, "classifier": {"model": "resnet18", "weights": "untrained"}}
    assert config.warnings(config.load(DEFAULT)) == []
    assert "untrained" in config.warnings(config.load(untrained))[0]


def test_a_classifier_trained_in_the_run_is_told_of():
    preset = yaml.safe_load((ROOT / "presets/train-in-run.yaml").read_text())
    trained = DEFAULT | preset | {"classifier": DEFAULT["classifier"] | preset["classifier"]}
    assert (
        "intervals hold for the classifier that this run trains" in config.warnings(config.load(trained))[0]
    )
    assert config.warnings(config.load(DEFAULT)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"test": 501},
            r"dataset\.test: found 501, allowed: at most 500, as the weights DIGITS of small_resnet",
        ),
        (
            {"size": 16},
            r"dataset\.size: found 16, and the weights DIGITS of small_resnet were trained with 32",
        ),
    ],
)
def test_packaged_weights_are_not_tested_on_what_they_were_trained_on(changes, message):
    settings = {**DEFAULT, "dataset": DEFAULT["dataset"] | changes}
    with pytest.raises(ConfigError, match=message):
        load(settings)
    load(settings | {"classifier": {"model": "small_resnet", "weights": "train"}})


def test_packaged_weights_need_the_pixels_that_they_were_trained_with():
    with pytest.raises(ConfigError, match=r"classifier\.mean: found .* were trained with \[0\.485"):
        load(changed("classifier", "mean", [0.5, 0.5, 0.5]))


def test_facts_about_digits_that_the_configuration_relies_on():
    target = load_digits().target
    assert (len(target), np.bincount(target).min()) == (digits.COUNT, digits.RAREST)
    for test in (40, 100, 500):
        rarest = np.bincount(asked.digits(test, 8).test_images().label).min()
        assert rarest >= test * digits.RAREST // digits.COUNT


def test_layers_are_asked_of_torch_once(tmp_path, monkeypatch):
    settings = config.load(LEAST)
    found = config.layers(settings, tmp_path / "layers.json")
    assert (len(found), found[0]) == (9, "maxpool")
    monkeypatch.setattr(subprocess, "run", None)
    assert config.layers(settings, tmp_path / "layers.json") == found
    for section, change in (("classifier", {"model": "resnet34"}), ("dataset", {"size": 64})):
        other = config.load(LEAST | {section: LEAST[section] | change})
        with pytest.raises(TypeError):
            config.layers(other, tmp_path / "layers.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ["layer1.0", "layr2.0"]}, "layers: found 'layr2.0'.*did you mean `layer2.0`"),
        ({"model": "resnet_18"}, "model: found 'resnet_18'.*did you mean `resnet18`"),
        ({"weights": "IMAGENET1K_V9"}, "weights: found 'IMAGENET1K_V9', allowed: IMAGENET1K_V1"),
        ({"model": "vit_b_32", "layers": ["encoder"]}, "dataset.size: found 32, .* Expected 224 but got 32"),
    ],
)
def test_what_only_torch_can_tell_is_an_error_of_the_configuration(tmp_path, change, message):
    settings = config.load(LEAST | {"classifier": LEAST["classifier"] | change})
    with pytest.raises(ConfigError, match=message):
        config.layers(settings, tmp_path / "layers.json")
    assert not (tmp_path / "layers.json").exists()


def test_a_network_that_is_not_there_is_told_before_any_image_is_read(tmp_path, monkeypatch):
    """To read those of ImageNet takes long."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(manifest, "contents", None)
    wrong = LEAST | {"classifier": {"model": "resnet_18", "weights": "train"}}
    with pytest.raises(ConfigError, match="did you mean `resnet18`"):
        console.planned(wrong, [], first=True, say=print)


def test_a_file_of_weights_that_does_not_fit_is_told_before_any_job(tmp_path):
    torch.save(classifiers.untrained("small_resnet", 3, seed=0).state_dict(), tmp_path / "three.pt")
    classifier = {"model": "small_resnet", "weights": str(tmp_path / "three.pt")}
    settings = config.load(LEAST | {"classifier": classifier})
    with pytest.raises(ConfigError, match="three.pt.* 3 classes"):
        config.layers(settings, tmp_path / "layers.json", "digest")
    torch.save(classifiers.untrained("small_resnet", 10, seed=0).state_dict(), tmp_path / "three.pt")
    # What was remembered of another content is asked again.
    assert config.layers(settings, tmp_path / "layers.json", "another")[0] == "stem"


@pytest.mark.parametrize("name", ["IMAGENET1K_V1", "DEFAULT"])
def test_named_weights_of_other_classes_are_told_before_any_job(tmp_path, name):
    settings = config.load(LEAST | {"classifier": {"model": "resnet18", "weights": name}})
    with pytest.raises(ConfigError, match=f"{name} has 1000 classes, the reference images 10"):
        config.layers(settings, tmp_path / "layers.json")


def test_a_detector_s_layer_is_one_of_the_run_s():
    def among(**entry):
        lstm = LEAST["detectors"][0]
        run = config.load(LEAST | {"detectors": [lstm, {"name": "d", **entry}]})
        return config.among(run, ["a", "b"]).detectors[1]

    assert among(method="knn").layer == "b"
    assert among(method="knn", layer="a").layer == "a"
    assert among(method="knn", layer="best").layer == "best"
    assert among(method="fisher", layers=["b"]).layers == ["b"]
    with pytest.raises(ConfigError, match=r"detectors\[1\].layer: found 'c', allowed: a, b"):
        among(method="knn", layer="c")
    with pytest.raises(ConfigError, match=r"detectors\[1\].layers: found 'c', allowed: a, b"):
        among(method="fisher_mlp", layers=["a", "c"])


def test_reading_the_configuration_imports_nothing_heavy():
    heavy = "torch", "pandas", "zarr", "dask", "sklearn", "scipy"
    script = f"import sys, detour.console, detour.code; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([INTERPRETER, "-c", script], text=True).strip() == "[]"


def test_the_table_of_the_documentation_is_the_schema_s():
    assert documented.table() in (ROOT / "docs/configuration.md").read_text(), (
        "run `make table` and paste what it prints"
    )


def test_the_preset_of_the_evaluation_fits_any_run_and_has_every_method():
    preset = yaml.safe_load((ROOT / "presets" / "evaluation.yaml").read_text())
    found = load(DEFAULT | preset)
    assert set(found["protocols"]) == set(PROTOCOLS)
    assert {entry["method"] for entry in found["detectors"]} == set(detectors.METHODS)
    assert set(found["adaptive"]["methods"]) == set(adaptive.METHODS)
    behind = yaml.safe_load((ROOT / "presets" / "three-seeds.yaml").read_text())
    seeded = load(DEFAULT | preset | behind)
    assert seeded["seeds"] == [0, 1, 2]
    assert [entry in found["detectors"] for entry in seeded["detectors"]] == [True, True]


@pytest.mark.parametrize("protocol", ["unknown", "transfer"])
def test_a_protocol_of_several_attacks_needs_them(protocol):
    with pytest.raises(
        ConfigError, match=rf"protocols\[1\]: found '{protocol}', which needs at least two attacks"
    ):
        load(LEAST | {"protocols": ["known", protocol]})


def test_figures_of_detectors_that_are_not_there():
    with pytest.raises(ConfigError, match=r"figures.detectors: found 'lstn', .*did you mean `lstm`"):
        load(changed("figures", "detectors", ["lstn"]))
