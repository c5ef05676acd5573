import pytest
import torch
from torchvision import models, transforms

from detour import classifiers, images, store
from detour.classifiers import Classifier, Training
from detour.images import Digits
from detour.store import Made


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


@pytest.mark.parametrize("model", ["resnet18", "inception_v3"])
def test_stored_classifier_is_the_state_dict_frozen(tmp_path, model):
    network = classifiers.untrained(model, 10, seed=0)
    torch.save(network.state_dict(), tmp_path / "state.pt")
    loaded = prepare(tmp_path, model=model, weights=str(tmp_path / "state.pt"))
    x = torch.rand(2, 3, 75, 75)
    with torch.no_grad():
        expected = network.eval()((x - 0.5) / 0.25)
    torch.testing.assert_close(loaded(x), expected, rtol=1e-3, atol=1e-4)
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not loaded.training


def test_state_dict_may_lack_the_heads_that_only_training_uses(tmp_path):
    state = classifiers.untrained("inception_v3", 10, seed=0).state_dict()
    torch.save({k: v for k, v in state.items() if "Aux" not in k}, tmp_path / "state.pt")
    prepare(tmp_path, model="inception_v3", weights=str(tmp_path / "state.pt"))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda: classifiers.untrained("resnet18", 7, seed=0).state_dict(), "resnet18 with 10 classes"),
        (lambda: classifiers.untrained("resnet34", 10, seed=0).state_dict(), "unexpected"),
        (lambda: {"model": {}}, "missing or unexpected"),
        (lambda: torch.nn.Linear(1, 1), "no state dict of resnet18"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, state, message):
    torch.save(state(), tmp_path / "state.pt")
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, weights=str(tmp_path / "state.pt"))


def test_training_learns_and_the_seed_decides(tmp_path):
    dataset = Digits(test=100, size=16, seed=0)
    training = Training(epochs=2, batch_size=64, lr=0.002)
    first, second = (prepare(tmp_path, training=training, dataset=dataset) for _ in range(2))
    pixels, label = dataset.test_images().images.tensors
    x = pixels.float() / 255
    assert (first(x).argmax(1) == label).float().mean() > 0.6
    torch.testing.assert_close(first(x), second(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("model", "count", "first", "last"),
    [
        ("resnet18", 9, "maxpool", "layer4.1"),
        ("resnet50", 17, "maxpool", "layer4.2"),
        ("wide_resnet101_2", 34, "maxpool", "layer4.2"),
        ("inception_v3", 12, "maxpool2", "Mixed_7c"),
    ],
)
def test_auto_is_the_stem_and_every_block(model, count, first, last):
    found = classifiers.layers(model, "auto")
    assert (len(found), found[0], found[-1]) == (count, first, last)


@pytest.mark.parametrize(
    ("model", "names", "message"),
    [
        ("resnet81", "auto", "did you mean `resnet18`"),
        ("resnet18", ["layer1.0", "layer5.0"], "did you mean `layer[1-4].0`"),
        ("vgg11", "auto", "neither the ResNet nor the Inception family"),
        ("swin_t", ["features.1"], "put their channels last"),
        ("regnet_y_400mf", ["stemm"], "did you mean `stem"),
    ],
)
def test_what_a_model_does_not_have_is_refused_with_the_nearest_name(model, names, message):
    with pytest.raises(ValueError, match=message):
        classifiers.layers(model, names)


def test_unknown_weight_enum_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean `IMAGENET1K_V1`"):
        classifiers.check_weights("resnet18", "IMAGENET_V1")


def test_device_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert classifiers.device_of("auto").type == "cpu"
    with pytest.raises(ValueError, match="torch sees no GPU"):
        classifiers.device_of("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_gpu_gives_the_logits_of_the_cpu(resnet):
    x = torch.rand(8, 3, 32, 32)
    cuda = classifiers.load(resnet, classifiers.device_of("auto"))
    assert cuda.mean.device.type == "cuda"
    torch.testing.assert_close(
        cuda(x.cuda()).cpu(), classifiers.load(resnet, torch.device("cpu"))(x), rtol=1e-2, atol=1e-3
    )


def test_dataset_section_finds_its_class():
    assert images.dataset(name="digits", seed=3, test=50, size=8) == Digits(test=50, size=8, seed=3)


def test_weight_enum_is_taken_if_its_classes_are_the_reference_s(tmp_path, monkeypatch):
    """Without the download: torchvision is asked for the network of that enum."""
    network = classifiers.untrained("resnet18", 1000, seed=0)
    monkeypatch.setattr(classifiers, "get_model", lambda name, weights: network)
    assert classifiers.pretrained("resnet18", "IMAGENET1K_V1", 1000) is network
    with pytest.raises(ValueError, match="IMAGENET1K_V1 has 1000 classes, the reference images 10"):
        classifiers.pretrained("resnet18", "IMAGENET1K_V1", 10)


def test_few_images_are_trained_on_in_one_batch(tmp_path):
    training = Training(epochs=1, batch_size=64, lr=0.002)
    prepare(tmp_path, training=training, dataset=Digits(test=1770, size=16, seed=0))


def test_classifier_says_what_made_it(tmp_path):
    torch.save(classifiers.untrained("resnet18", 10, seed=0).state_dict(), tmp_path / "state.pt")
    prepare(tmp_path, weights=str(tmp_path / "state.pt"))
    about = torch.load(tmp_path / "classifier.pt", weights_only=True)["made"]
    assert about["sources"] == {"state.pt": store.digest(tmp_path / "state.pt")}
    assert {"settings", "code", "threads", "device", "versions"} <= set(about)
