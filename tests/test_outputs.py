import functools

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from detour import activations, classifiers
from detour.classifiers import Classifier, Question
from detour.outputs import OutputError, average, channels

pytestmark = pytest.mark.usefixtures("forked")

PIXELS = {"mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.mark.parametrize(
    ("shape", "axis", "space"),
    [((3, 8), 1, ()), ((3, 5, 8), 2, (1,)), ((3, 8, 4, 6), 1, (2, 3)), ((3, 4, 6, 8), 3, (1, 2))],
)
def test_average_is_over_all_axes_but_the_first_and_the_channels(shape, axis, space):
    x = torch.rand(shape)
    found = average(x, axis)
    np.testing.assert_allclose(found, x.numpy().mean(space), rtol=1e-5)
    x.zero_()
    assert (found > 0).all()


@functools.cache
def network(model: str) -> Classifier:
    """With seeded weights, whose biases move what an in-place ReLU cuts off."""
    made = classifiers.untrained(model, 5, seed=0)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return Classifier(made, **PIXELS).eval()


def cloned(net: Classifier, layer: str, x: torch.Tensor) -> torch.Tensor:
    """What the layer puts out, kept from what later modules do to it."""
    kept = []
    hook = net.layer(layer).register_forward_hook(lambda module, inputs, output: kept.append(output.clone()))
    with torch.no_grad():
        net(x.float() / 255)
    hook.remove()
    (output,) = kept
    return output


OWN = [
    # A ReLU, Hardswish or addition in place follows.
    ("vgg11", 32, "features.18", (2, 3), 512),
    ("vgg11", 32, "classifier.0", (), 4096),
    ("alexnet", 64, "classifier.4", (), 4096),
    ("mobilenet_v3_small", 32, "features.0.1", (2, 3), 16),
    ("mobilenet_v3_small", 32, "classifier.0", (), 1024),
    ("resnet18", 32, "layer1.0.bn2", (2, 3), 64),
    ("small_resnet", 32, "stem.1", (2, 3), 16),
    # Channels last, and first again.
    ("convnext_tiny", 32, "features.1.0.block.2", (1, 2), 96),
    ("convnext_tiny", 32, "features.1.0.block.3", (1, 2), 384),
    ("convnext_tiny", 32, "features.1.0.block.4", (1, 2), 384),
    ("convnext_tiny", 32, "features.1.0.block", (2, 3), 96),
    ("convnext_tiny", 32, "features.0", (2, 3), 96),
    ("swin_t", 32, "features.0", (1, 2), 96),
    ("swin_t", 64, "features.3.1", (1, 2), 192),
    ("swin_t", 64, "norm", (1, 2), 768),
    ("swin_t", 64, "permute", (2, 3), 768),
    ("vit_b_32", 224, "encoder.layers.encoder_layer_1", (1,), 768),
    ("vit_b_32", 224, "conv_proj", (2, 3), 768),
    # As many channels as pixels in a row: a larger image tells.
    ("small_resnet", 32, "blocks.0", (2, 3), 16),
    ("resnet18", 128, "maxpool", (2, 3), 64),
    ("resnet18", 256, "layer1.0", (2, 3), 64),
    ("mobilenet_v3_small", 256, "features.0", (2, 3), 16),
]


@pytest.mark.parametrize(("model", "size", "layer", "space", "width"), OWN)
def test_a_layer_s_own_output_averaged_over_what_is_space(model, size, layer, space, width):
    x = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    net = network(model)
    expected = cloned(net, layer, x).double().numpy().mean(space)
    (found,) = activations.record(net, [layer], [(x, torch.arange(2))])
    assert found[layer].shape == (2, width)
    np.testing.assert_allclose(found[layer], expected, rtol=1e-3, atol=1e-5)
    asked = Question(model, "untrained", [layer], None, 5, size, "dataset.crop")
    assert classifiers.look(asked) == [layer]


REFUSED = [
    ("resnet18", 32, "layer1.0.relu", "'layer1.0.relu' is called 2 times in a pass, expected once"),
    ("inception_v3", 96, "AuxLogits.conv0", "'AuxLogits.conv0' is never called when the network classifies"),
    ("googlenet", 64, "aux1", "'aux1' is never called"),
    ("vit_b_32", 224, "encoder.layers.encoder_layer_0.self_attention", "puts out a tuple, expected one tensor"),
    ("swin_v2_t", 64, "features.1.0.attn.cpb_mlp", r"puts out \[1, 15, 15, 3\] for a batch of 3 images"),
    ("maxvit_t", 224, "blocks.0.layers.0.layers.window_attention.partition_op",
     r"puts out \[3, 64, 49, 64\], of which the axis of the channels cannot be told"),
    ("vit_b_32", 64, "encoder", "dataset.crop: found 64, .* takes no images of 64 x 64 pixels .*Expected 224 but got 64"),
    ("inception_v3", 64, "maxpool2", "dataset.crop: found 64, and inception_v3 takes no images of 64 x 64"),
    ("alexnet", 32, "features", "dataset.crop: found 32, and alexnet takes no images"),
    ("maxvit_t", 64, "stem", "dataset.crop: found 64, and maxvit_t takes no images"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "size", "layer", "message"), REFUSED)
def test_what_cannot_be_compared_is_refused_by_one_pass_without_weights(model, size, layer, message):
    switch = False if model in ("inception_v3", "googlenet") else None
    with pytest.raises(ValueError, match=message):
        classifiers.look(Question(model, "untrained", [layer], switch, 5, size, "dataset.crop"))


def test_a_network_that_is_trained_is_also_tried_as_it_trains():
    """Inception's auxiliary head, which training alone uses, needs larger images than the rest of it."""
    asked = Question("inception_v3", "untrained", ["maxpool2"], False, 5, 96, "dataset.crop")
    assert classifiers.look(asked) == ["maxpool2"]
    with pytest.raises(ValueError, match="dataset.crop: found 96, and inception_v3 takes no images"):
        classifiers.look(Question("inception_v3", "train", ["maxpool2"], False, 5, 96, "dataset.crop"))


class Odd(nn.Module):
    """Modules that put out what no network of torchvision does."""

    def __init__(self, change):
        super().__init__()
        self.stem, self.odd, self.fc = nn.Conv2d(3, 4, 3, padding=1), Change(change), nn.Linear(4, 5)

    def forward(self, x):
        y = self.stem(x)
        self.odd(y)
        return self.fc(y.mean((2, 3)))


class Change(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y > 0, "values of type torch.bool, expected floats"),
        (lambda y: y.argmax(1), "values of type torch.int64, expected floats"),
        (lambda y: y.to(torch.complex64), "values of type torch.complex64, expected floats"),
        (lambda y: y[:, :0], r"puts out \[3, 0, 8, 8\] for a batch of 3"),
        (lambda y: y.mean(), r"puts out \[\] for a batch of 3"),
        (lambda y: y.mean((1, 2, 3)), r"puts out \[3\] for a batch of 3"),
        (lambda y: y[:, :, None], r"puts out \[3, 4, 1, 8, 8\] for a batch of 3"),
        (lambda y: y.flatten(0, 1), r"puts out \[12, 8, 8\] for a batch of 3"),
        (lambda y: y.mean(0, keepdim=True), r"puts out \[1, 4, 8, 8\] for a batch of 3"),
        (lambda y: (y, y), "puts out a tuple"),
        (lambda y: {"y": y}, "puts out a dict"),
        (lambda y: None, "puts out a NoneType"),
        (lambda y: y[:, :, :3, :5], "of which the axis of the channels cannot be told"),
    ],
)
def test_outputs_of_other_kinds_are_refused_with_the_layer_s_name(change, message):
    net = Odd(change).eval()
    with pytest.raises(OutputError, match=f"classifier.layers: 'odd' {message}|'odd' puts out .*{message}"):
        channels(net, {"odd": net.odd, "stem": net.stem}, torch.rand(3, 3, 8, 8))


@pytest.mark.parametrize(
    ("change", "axis"),
    [
        (lambda y: y.flatten(2), 1),
        (lambda y: y.flatten(2).transpose(1, 2), 2),
        (lambda y: y.permute(0, 2, 3, 1), 3),
        (lambda y: nn.functional.adaptive_avg_pool2d(y, 7), 1),
        (lambda y: nn.functional.adaptive_avg_pool2d(y, 7).flatten(2).transpose(1, 2), 2),
        (lambda y: torch.relu(y).repeat(1, 2, 1, 1), 1),
    ],
)
def test_axes_that_grow_with_the_image_are_space(change, axis):
    net = Odd(change).eval()
    assert channels(net, {"odd": net.odd}, torch.rand(3, 3, 8, 8)) == {"odd": axis}


def test_every_layer_that_is_wrong_is_named_at_once():
    net = models.resnet18(num_classes=4).eval()
    modules = {name: net.get_submodule(name) for name in ("layer1.0.relu", "layer2.1.relu", "layer4")}
    with pytest.raises(OutputError) as caught:
        channels(net, modules, torch.rand(1, 3, 32, 32))
    assert [line.split("'")[1] for line in str(caught.value).splitlines()] == [
        "layer1.0.relu",
        "layer2.1.relu",
    ]


def test_recording_refuses_a_layer_that_is_called_twice_too(resnet):
    net = classifiers.load(resnet, torch.device("cpu"))
    batch = torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1)
    with pytest.raises(OutputError, match="called 2 times"):
        next(activations.record(net, ["layer1.0.relu"], [batch]))


def test_logits_of_another_number_than_the_classes_are_refused(monkeypatch):
    wider = {"small_resnet": lambda classes: classifiers.NETWORKS["small_resnet"](classes + 1)}
    monkeypatch.setattr(classifiers, "_network", lambda model, classes, options: wider[model](classes))
    with pytest.raises(ValueError, match=r"small_resnet gives logits \[3, 6\] for 3 images of 5 classes"):
        classifiers.look(Question("small_resnet", "untrained", "auto", None, 5, 32, "dataset.size"))


@pytest.mark.parametrize("where", ["layer", "logits"])
def test_activations_that_are_not_finite_are_refused_with_image_layer_and_set(resnet, where):
    net = classifiers.load(resnet, torch.device("cpu"))

    def spoil(module, inputs, output):
        if len(output) == 2:
            output[1] = torch.nan if where == "layer" else torch.inf

    net.layer("layer3" if where == "layer" else "fc").register_forward_hook(spoil)
    x = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    batches = [(x[:3], torch.arange(3)), (x[3:], torch.arange(3, 5))]
    name = "layer4.1" if where == "layer" else "logits"
    with pytest.raises(ValueError, match=rf"the set: {name} of image 4, of class 4, is not finite"):
        list(activations.record(net, ["layer1.0", "layer4.1"], batches, "the set"))
