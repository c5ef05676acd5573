import hashlib
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models, transforms

import asked
from conftest import SMALL, Workflow
from detour import classifiers, datasets, devices, states, store, vision
from detour.activations import Recorder
from detour.artefacts import TakenOverError
from detour.classifiers import Classifier, Question
from detour.datasets.digits import Digits
from detour.options.classifier import Training
from detour.store import Made
from detour.weights import WEIGHTS

pytestmark = pytest.mark.usefixtures("forked")


def prepare(path, **changed):
    options = {"model": "resnet18", "weights": "train", "mean": [0.5] * 3, "std": [0.25] * 3, "classes": 10}
    classifiers.prepare(path / "classifier.pt", made=Made({}, ""), **(options | changed))
    return classifiers.load(path / "classifier.pt", torch.device("cpu"))


def test_normalisation_inside_is_torchvision_s_outside():
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    network = models.resnet18(num_classes=4).eval()
    x = torch.rand(2, 3, 32, 32)
    expected = network(transforms.Normalize(mean, std)(x))
    torch.testing.assert_close(Classifier(network, mean, std).eval()(x), expected)


@pytest.mark.parametrize("model", ["resnet18", "inception_v3", "small_resnet"])
def test_stored_classifier_is_the_state_dict_frozen(tmp_path, model):
    network = classifiers.untrained(model, 10, seed=0)
    torch.save(network.state_dict(), tmp_path / "state.pt")
    switch = {"transform_input": False} if model == "inception_v3" else {}
    loaded = prepare(tmp_path, model=model, weights=str(tmp_path / "state.pt"), **switch)
    x = torch.rand(2, 3, 75, 75)
    with torch.no_grad():
        expected = network.eval()((x - 0.5) / 0.25)
    torch.testing.assert_close(loaded(x), expected, rtol=1e-3, atol=1e-4)
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not loaded.training


def test_state_dict_may_lack_the_heads_that_only_training_uses(tmp_path):
    state = classifiers.untrained("inception_v3", 10, seed=0).state_dict()
    torch.save({k: v for k, v in state.items() if "Aux" not in k}, tmp_path / "state.pt")
    prepare(tmp_path, model="inception_v3", weights=str(tmp_path / "state.pt"), transform_input=True)


def test_training_learns_and_the_seed_decides(tmp_path):
    dataset = asked.digits(test=100, size=16)
    trained = {
        "model": "small_resnet",
        "training": Training(epochs=2, batch_size=64, lr=0.01),
        "dataset": dataset,
    }
    first, second = (prepare(tmp_path, **trained) for _ in range(2))
    pixels, label = dataset.test_images().images.tensors
    x = pixels.float() / 255
    assert (first(x).argmax(1) == label).float().mean() > 0.9
    torch.testing.assert_close(first(x), second(x), rtol=0, atol=0)


def looked_at(model: str, layers: str | list[str] = "auto", **asked) -> list[str]:
    """Names of the layers to compare."""
    switch = False if model == "inception_v3" else None
    options = {"weights": "untrained", "classes": 10, "size": 96, "key": "dataset.size"}
    return classifiers.look(Question(model, layers=layers, transform_input=switch, **(options | asked)))


@pytest.mark.parametrize(
    ("model", "count", "first", "last"),
    [
        ("resnet18", 9, "maxpool", "layer4.1"),
        ("resnet50", 17, "maxpool", "layer4.2"),
        ("wide_resnet101_2", 34, "maxpool", "layer4.2"),
        ("inception_v3", 12, "maxpool2", "Mixed_7c"),
        ("small_resnet", 9, "stem", "blocks.7"),
    ],
)
def test_auto_is_the_stem_and_every_block(model, count, first, last):
    found = looked_at(model)
    assert (len(found), found[0], found[-1]) == (count, first, last)


@pytest.mark.parametrize(
    ("model", "names", "message"),
    [
        ("resnet81", "auto", "did you mean `resnet18`"),
        ("small_resnett", "auto", "did you mean `small_resnet`"),
        ("small_resnet", ["blocks.8"], "did you mean `blocks"),
        ("resnet18", ["layer1.0", "layer5.0"], "did you mean `layer[1-4].0`"),
        ("small_resnet", ["block.*"], "found 'block.*'.*did you mean `blocks"),
        ("regnet_y_400mf", ["stemm"], "did you mean `stem"),
    ],
)
def test_what_a_model_does_not_have_is_refused_with_the_nearest_name(model, names, message):
    with pytest.raises(ValueError, match=message):
        looked_at(model, names)


def test_unknown_weight_enum_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean `IMAGENET1K_V1`"):
        classifiers.check_weights("resnet18", "IMAGENET_V1", 10)
    with pytest.raises(ValueError, match="found 'DIGITS', allowed: IMAGENET1K_V1"):
        classifiers.check_weights("resnet18", "DIGITS", 10)
    with pytest.raises(ValueError, match="did you mean `DIGITS`"):
        classifiers.check_weights("small_resnet", "DIGIT", 10)
    classifiers.check_weights("small_resnet", "DIGITS", 10)


def test_device_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert classifiers.device_of("auto").type == "cpu"
    with pytest.raises(ValueError, match="torch sees no GPU"):
        classifiers.device_of("cuda")


def test_a_gpu_is_claimed_before_torch_looks_for_one_and_none_for_the_cpu(monkeypatch):
    done = []
    monkeypatch.setattr(devices, "claim", lambda: done.append("claim"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(done.append("look")))
    classifiers.device_of("auto")
    assert done == ["claim", "look"]
    classifiers.device_of("cpu")
    assert "claim" not in done[2:]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_gpu_gives_the_logits_of_the_cpu(resnet):
    x = torch.rand(8, 3, 32, 32)
    cuda = classifiers.load(resnet, classifiers.device_of("auto"))
    assert cuda.mean.device.type == "cuda"
    torch.testing.assert_close(
        cuda(x.cuda()).cpu(), classifiers.load(resnet, torch.device("cpu"))(x), rtol=1e-2, atol=1e-3
    )


def test_dataset_section_finds_its_class():
    found = datasets.dataset({"name": "digits", "test": 50, "size": 8, "content": "for the record"})
    assert isinstance(found, Digits)
    assert (found.test, found.size) == (50, 8)


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """With statistics of batch norm as after training, so that folding it has something to do."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.3, 0.9),
            ):
                values.uniform_(low, high)
    return network.eval()


@pytest.fixture
def inception(tmp_path, monkeypatch):
    """An Inception whose file torchvision would call its own, and the path of that file."""
    torch.manual_seed(0)
    network = models.inception_v3(weights=None, init_weights=False, transform_input=True)
    torch.save(randomised(network).state_dict(), tmp_path / "state.pt")
    digest = hashlib.sha256((tmp_path / "state.pt").read_bytes()).hexdigest()
    path = (tmp_path / "state.pt").rename(tmp_path / f"inception-{digest[:8]}.pth")
    own = SimpleNamespace(
        name="IMAGENET1K_V1", url=f"https://example.org/{path.name}", meta={"categories": [""] * 1000}
    )
    enum = SimpleNamespace(__members__={own.name: own})
    monkeypatch.setattr(vision, "get_model_weights", lambda model: enum)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return network, path


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "classes": 1000}


@pytest.mark.parametrize("by", ["name", "path"])
def test_logits_of_inception_are_the_bare_model_s_on_torchvision_s_own_preprocessing(tmp_path, inception, by):
    network, path = inception
    if by == "name":
        cached = tmp_path / "hub" / "checkpoints" / path.name
        cached.parent.mkdir(parents=True)
        cached.write_bytes(path.read_bytes())
    weights = "IMAGENET1K_V1" if by == "name" else str(path)
    loaded = prepare(tmp_path, model="inception_v3", weights=weights, **IMAGENET)
    preset = models.Inception_V3_Weights.IMAGENET1K_V1.transforms(resize_size=299)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (299, 299, 3), dtype=np.uint8))
    with torch.no_grad():
        expected = network(preset(picture)[None])
        found = loaded(transforms.functional.pil_to_tensor(picture)[None].float() / 255)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_file_of_torchvision_is_checked_by_its_hash(tmp_path, inception):
    _, path = inception
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"{path.name}: found a file with SHA-256 .*, expected .* fetch it"):
        prepare(tmp_path, model="inception_v3", weights=str(path), **IMAGENET)


def test_without_a_network_the_error_says_which_file_to_put_where(tmp_path, inception, monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    where = tmp_path / "hub" / "checkpoints" / inception[1].name
    with pytest.raises(ValueError, match=rf"cannot fetch https://example.org/.*no route.* put it at {where}"):
        prepare(tmp_path, model="inception_v3", weights="IMAGENET1K_V1", **IMAGENET)


def test_torchvision_s_weights_need_the_classes_that_they_were_trained_on():
    with pytest.raises(ValueError, match="IMAGENET1K_V1 has 1000 classes, the reference images 10"):
        classifiers.pretrained("resnet18", "IMAGENET1K_V1", 10)


def test_untrained_weights_are_the_seed_s(tmp_path):
    first, again, other = (prepare(tmp_path, weights="untrained", seed=seed) for seed in (0, 0, 1))
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(first(x), again(x), rtol=0, atol=0)
    assert not torch.allclose(first(x), other(x))


MODELS = [
    ("resnet18", 20), ("inception_v3", 94), ("densenet121", 59), ("mobilenet_v3_small", 34), ("vgg11_bn", 8),
    ("vit_b_32", 0), ("small_resnet", 19),
]  # fmt: skip


@pytest.mark.parametrize(("model", "norms"), MODELS)
def test_folding_batch_norm_changes_no_output(model, norms):
    torch.manual_seed(0)
    network = randomised(classifiers.untrained(model, 10, seed=0))
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        expected = network(x)
        assert classifiers.fold(network) == norms
        found = network(x)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_layers_that_are_wanted_are_not_folded():
    network = classifiers.untrained("resnet18", 10, seed=0).eval()
    assert classifiers.fold(network, keep=["conv1", "layer1.0.bn2", "layer4.1"]) == 18
    assert isinstance(network.bn1, torch.nn.BatchNorm2d)
    assert isinstance(network.layer1[0].bn2, torch.nn.BatchNorm2d)


@pytest.mark.parametrize(("precision", "share"), [("bfloat16", 0.6), ("float16", 0.9)])
def test_input_gradients_have_the_signs_of_float32_in_half_of_it(resnet, precision, share):
    """Of a mean over many images, whose gradients are small."""
    x = torch.rand(64, 3, 32, 32)
    signs = []
    for wanted in ("float32", precision):
        net = classifiers.load(resnet, torch.device("cpu"), wanted)
        leaf = x.clone().requires_grad_()
        logits = net(leaf)
        assert logits.dtype == torch.float32
        # A thousandth: as of a mean over a thousand times the images.
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(64) % 10) / 1000
        signs.append(torch.autograd.grad(loss, leaf)[0].sign())
    assert (signs[1] != 0).float().mean() > 0.999
    assert (signs[0] == signs[1]).float().mean() >= share


def test_float32_is_float32_on_a_gpu_unless_told_otherwise(resnet):
    """The flags alone: what a GPU does with them is not seen here."""
    for precision, products in (("float32", "ieee"), ("tf32", "tf32"), ("float32", "ieee")):
        classifiers.load(resnet, torch.device("cpu"), precision)
        assert torch.backends.cudnn.conv.fp32_precision == products
        assert torch.backends.cuda.matmul.fp32_precision == products


def test_inception_has_the_paper_s_twelve_layers_with_their_widths():
    names = looked_at("inception_v3")
    blocks = ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]
    assert names == ["maxpool2", *(f"Mixed_{block}" for block in blocks)]
    with torch.device("meta"):
        net = Classifier(classifiers.untrained("inception_v3", 1000, seed=0), [0.0] * 3, [1.0] * 3).eval()
    recorder = Recorder(net, names)
    net(torch.empty(1, 3, 299, 299, device="meta"))
    widths = [recorder.averages[name].shape[1] for name in names]
    assert widths == [192, 256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048]


OWN = WEIGHTS["small_resnet"]["DIGITS"]


@pytest.fixture
def digits_network(tmp_path):
    return prepare(tmp_path, model="small_resnet", weights="DIGITS", **OWN.requires["classifier"])


def test_packaged_weights_are_right_about_images_that_they_were_not_trained_on(digits_network):
    dataset = asked.digits(OWN.held_out, OWN.requires["dataset"]["size"])
    x, label = dataset.test_images().images.tensors
    assert (digits_network(x.float() / 255).argmax(1) == label).float().mean() > 0.98


def test_packaged_weights_were_trained_on_no_image_of_a_test():
    """The log of their training has the digest of the images' names: those that no run can test on."""
    log = OWN.path.with_suffix(".log").read_text()
    names = asked.digits(OWN.held_out, 8).reference_images().names
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    assert f"{len(names)} images, SHA-256 of their names {digest}" in log
    assert f"SHA-256 {OWN.sha256}, " in log
    for test in (10, 100, OWN.held_out):
        assert not set(names) & set(asked.digits(test, 8).test_images().names)


def test_attacks_of_the_default_run_fool_the_packaged_weights(digits_network):
    x, label = asked.digits(OWN.held_out, 32).test_images().images.tensors
    x, target = x[::10].float() / 255, (label[::10] + 1) % 10
    moved = x.clone()
    for _ in range(20):
        leaf = moved.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(digits_network(leaf), target)
        moved = moved - 2 / 255 * torch.autograd.grad(loss, leaf)[0].sign()
        moved = torch.clamp(torch.clamp(moved, x - 32 / 255, x + 32 / 255), 0, 1)
    assert (digits_network(moved).argmax(1) == target).float().mean() >= 0.8


def test_packaged_weights_need_their_number_of_classes():
    with pytest.raises(ValueError, match="DIGITS has 10 classes, the reference images 9"):
        classifiers.pretrained("small_resnet", "DIGITS", 9)


def test_packaged_weights_that_are_not_whole_are_refused(tmp_path, monkeypatch):
    content = bytearray(OWN.path.read_bytes())
    content[-1] ^= 1
    (tmp_path / OWN.file).write_bytes(content)
    monkeypatch.setattr(type(OWN), "path", tmp_path / OWN.file)
    with pytest.raises(ValueError, match=r"digits.safetensors: found .* restore it from the repository"):
        classifiers.pretrained("small_resnet", "DIGITS", 10)


@pytest.mark.slow
def test_a_classifier_is_trained_by_as_many_threads_whatever_the_cores(tmp_path):
    """Their number changes what is learnt: without it in the settings, --cores 1 would give another."""
    trained = []
    for cores in ("1", "2"):
        settings = SMALL | {
            "threads": 2,
            "dataset": {"name": "digits", "test": 1500, "size": 16},
            "classifier": {"model": "small_resnet", "weights": "train", "training": {"epochs": 1}},
        }
        workflow = Workflow(tmp_path / cores, settings)
        ran = workflow.snakemake("results/small/classifier.pt", "--cores", cores)
        assert ran.returncode == 0, ran.stdout
        path = workflow.results / "classifier.pt"
        assert store.attributes(path)["threads"] == 2
        trained.append(states.load(path)["state"])
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_few_images_are_trained_on_in_one_batch(tmp_path):
    training = Training(epochs=1, batch_size=64, lr=0.002)
    prepare(tmp_path, training=training, dataset=asked.digits(test=1770, size=16))


def test_a_job_that_was_begun_anew_loses_its_classifier_to_the_later_start(tmp_path, monkeypatch):
    monkeypatch.setattr(classifiers, "train", lambda *args: prepare(tmp_path, weights="untrained", seed=1))
    with pytest.raises(TakenOverError, match="classifier.pt: another job took over"):
        prepare(
            tmp_path,
            training=Training(epochs=1, batch_size=64, lr=0.1),
            dataset=asked.digits(test=100, size=16),
        )
    later = classifiers.load(tmp_path / "classifier.pt", torch.device("cpu"))
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(later(x), prepare(tmp_path, weights="untrained", seed=1)(x), rtol=0, atol=0)


def test_classifier_says_what_made_it(tmp_path):
    torch.save(classifiers.untrained("resnet18", 10, seed=0).state_dict(), tmp_path / "state.pt")
    prepare(tmp_path, weights=str(tmp_path / "state.pt"))
    about = store.attributes(tmp_path / "classifier.pt")
    assert about["sources"] == {f"{tmp_path.name}/state.pt": store.digest(tmp_path / "state.pt")}
    assert {"settings", "code", "threads", "device", "versions"} <= set(about)


@pytest.mark.parametrize("stated", [True, False])
def test_what_transforms_its_input_is_stated_for_a_file(tmp_path, stated):
    """The logits are those of torchvision's network that was built so."""
    network = vision.network("googlenet", 10)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    for model in ("googlenet", "inception_v3"):
        with pytest.raises(
            ValueError, match=r"classifier\.transform_input: found none, and a state dict does not"
        ):
            prepare(tmp_path, model=model, weights=str(tmp_path / "a.pt"))
    loaded = prepare(tmp_path, model="googlenet", weights=str(tmp_path / "a.pt"), transform_input=stated)
    network.transform_input = stated
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), network.eval()((x - 0.5) / 0.25), rtol=1e-3, atol=1e-4)


def test_transform_input_is_of_two_networks_alone():
    with pytest.raises(
        ValueError, match="transform_input: found True, and resnet18 has no such switch; leave it out"
    ):
        classifiers.transforms_input("resnet18", "train", True)
    assert classifiers.transforms_input("resnet18", "a.pt") is None
    assert classifiers.transforms_input("inception_v3", "train") is False
    assert classifiers.transforms_input("googlenet", "IMAGENET1K_V1") is True
    assert classifiers.transforms_input("googlenet", "IMAGENET1K_V1", False) is False


def test_statistics_of_batch_norm_are_those_of_the_images_after_few_steps(monkeypatch):
    """With all images in one batch, they are the mean and the variance of what comes in."""
    images = asked.digits(test=1700, size=16).reference_images()
    training = Training(epochs=1, batch_size=200, lr=0.002)
    net = Classifier(classifiers.untrained("small_resnet", 10, seed=0), [0.5] * 3, [0.25] * 3)
    classifiers.train(net, images, training, 0, torch.device("cpu"))
    before = {name: parameter.clone() for name, parameter in net.named_parameters()}
    classifiers.settle(net, images, training, 0)
    assert all(torch.equal(before[name], parameter) for name, parameter in net.named_parameters())
    kept = []
    net.layer("stem.1").register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].clone()))
    x = torch.stack([images.images[i][0] for i in range(len(images.label))]).float() / 255
    with torch.no_grad():
        net.eval()(x)
    norm = net.layer("stem.1")
    torch.testing.assert_close(norm.running_mean, kept[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(norm.running_var, kept[0].var((0, 2, 3)), rtol=1e-3, atol=1e-5)
    assert norm.momentum == 0.1


@pytest.mark.slow
def test_a_network_that_is_trained_in_few_steps_knows_its_classes(tmp_path):
    """Without statistics of its own it is at chance, or near it."""
    dataset = asked.digits(test=500, size=32)
    training = Training(epochs=3, batch_size=100, lr=0.005)
    x, label = dataset.test_images().images.tensors
    loaded = prepare(tmp_path, model="mobilenet_v3_small", training=training, dataset=dataset)
    with torch.no_grad():
        right = (loaded(x.float() / 255).argmax(1) == label).float().mean()
    assert right > 0.4
