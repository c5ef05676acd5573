"""The table of families in docs/networks.md: what is recorded there is what the layers put out."""

import re

import numpy as np
import pytest
import torch

from conftest import ROOT
from detour import activations, classifiers
from detour.classifiers import Classifier, Question

TIMM = "timm:create_model"
LARGE = pytest.mark.slow

# Family, network, options of a function, side of the images, and how many layers `auto` takes.
FAMILIES = [
    ("ResNet", "resnet18", {}, 32, 9),
    pytest.param("VGG", "vgg11", {}, 32, 10, marks=LARGE),
    ("DenseNet", "densenet121", {}, 32, 5),
    pytest.param("Inception", "inception_v3", {}, 75, 12, marks=LARGE),
    ("GoogLeNet", "googlenet", {}, 32, 10),
    ("MobileNet", "mobilenet_v2", {}, 32, 18),
    ("MobileNet", "mobilenet_v3_small", {}, 32, 12),
    ("EfficientNet", "efficientnet_b0", {}, 32, 17),
    ("RegNet", "regnet_y_400mf", {}, 32, 17),
    ("ConvNeXt", "convnext_tiny", {}, 32, 19),
    pytest.param("ViT", "vit_b_32", {}, 224, 13, marks=LARGE),
    ("Swin", "swin_t", {}, 64, 13),
    pytest.param("MaxViT", "maxvit_t", {}, 224, 34, marks=LARGE),
    ("ShuffleNet", "shufflenet_v2_x0_5", {}, 32, 17),
    ("timm's ResNet", TIMM, {"model_name": "resnet10t"}, 32, 5),
    ("timm's ConvNeXt", TIMM, {"model_name": "convnext_atto"}, 32, 4),
    ("timm's ViT", TIMM, {"model_name": "vit_tiny_patch16_224", "img_size": 32}, 32, 12),
    ("timm's Swin", TIMM, {"model_name": "swin_tiny_patch4_window7_224", "img_size": 56}, 56, 4),
    ("timm's EfficientNet-Lite", TIMM, {"model_name": "efficientnet_lite0"}, 32, 5),
]
# Of four axes, these have their channels last.
LAST = ("swin",)


@pytest.mark.parametrize(("family", "model", "options", "size", "count"), FAMILIES)
def test_recorded_averages_are_those_of_a_plain_pass_with_hooks_that_clone(
    family, model, options, size, count
):
    if model == TIMM:
        pytest.importorskip("timm")
        options = options | {"num_classes": 5}
    switch = False if model in ("inception_v3", "googlenet") else None
    question = Question(model, "untrained", "auto", switch, 5, size, "dataset.size", options=options)
    layers = classifiers.look(question)
    assert len(layers) == count
    network = classifiers.untrained(model, 5, 0, options).eval()
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        # Otherwise an activation function in place has nothing to cut off.
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    kept = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: kept.update({name: output.clone()})
        )
        for name in layers
    ]
    x = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        network(x.float() / 255)
    for hook in hooks:
        hook.remove()
    last = any(name in f"{model}{options}" for name in LAST)
    classifiers.fold(network, keep=layers)
    net = Classifier(network, [0.0] * 3, [1.0] * 3).eval()
    (found,) = activations.record(net, layers, [(x, torch.arange(2))])
    for name in layers:
        space = {2: (), 3: (1,), 4: (1, 2) if last else (2, 3)}[kept[name].ndim]
        expected = kept[name].double().numpy().mean(space)
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-4, err_msg=name)


def test_the_table_of_families_is_the_list_of_these_tests():
    text = (ROOT / "docs/networks.md").read_text()
    rows = re.findall(r"^\| ([^|]+?) \| `([^`|]+)` \| (\d+) \| (\d+) \|", text, re.MULTILINE)
    listed = []
    for entry in FAMILIES:
        family, model, options, size, count = getattr(entry, "values", entry)
        listed.append((family, options.get("model_name", model), str(size), str(count)))
    assert rows == listed
