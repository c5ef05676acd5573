"""Everything that runs a network, on every device that is here: with a GPU, `make gpu` runs it there.

The CPU's cases show that the tests themselves hold; the GPU's are compared with the CPU.
"""

import numpy as np
import pytest
import torch
from torch import nn

import asked
from detour import activations, attacks, classifiers, images, store
from detour.attacks import adversarial
from detour.classifiers import Classifier
from detour.datasets import Labelled
from detour.options.attacks import METHODS
from detour.options.classifier import Training

pytestmark = pytest.mark.slow

CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")],
)
LAYERS = ["maxpool", "layer4.1"]

# Every method in a few steps; the share of bytes that may differ from the CPU's by more than one level.
ATTACKS = {
    "fgsm": ({"eps": 8}, 0.02),
    "iterative": ({"eps": 8, "steps": 3, "step": 3}, 0.1),
    # Drawn on the CPU, whatever the device.
    "noise": ({"eps": 8}, 0),
    "pgd": ({"eps": 8, "steps": 3, "random_start": True}, 0.1),
    "mifgsm": ({"eps": 8, "steps": 3, "decay": 1}, 0.1),
    "sparse_l1": ({"eps": 500, "norm": "l1", "steps": 3, "sparsity": 99}, 0.1),
    # These draw on the device, or go where a coin has fallen: only what they promise is compared.
    "carlini_wagner": ({"eps": None, "steps": 5, "searches": 2, "lr": 0.1}, 1),
    "spsa": ({"eps": 8, "steps": 2, "samples": 8, "delta": 2, "lr": 4}, 1),
    "hop_skip_jump": ({"eps": None, "steps": 2, "samples": 10}, 1),
    # Other libraries', which start or step as they draw.
    "torchattacks": ({"attack": "FGSM", "eps": 8}, 0.02),
    "foolbox": ({"attack": "LinfPGD", "options": {"steps": 3, "random_start": False}, "eps": 8}, 0.1),
    "art": ({"attack": "FastGradientMethod", "eps": 8}, 0.02),
    "autoattack": ({"eps": 8}, 1),
}


def test_every_method_that_runs_a_network_is_here():
    assert set(ATTACKS) == set(METHODS) - {"files"}


@pytest.fixture(params=["cpu", CUDA])
def device(request) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)


def perturbed(
    resnet, device: torch.device, x: np.ndarray, method: str, precision: str = "float32"
) -> np.ndarray:
    net = classifiers.load(resnet, device, precision)
    options, _ = ATTACKS[method]
    aim = {} if method in ("noise", "autoattack") else {"target": "dataset"}
    attack = asked.attack(method, **aim, **options)
    with torch.no_grad():
        y = net(torch.from_numpy(x).to(net.mean.device).float() / 255).argmax(1).tolist()
    starts = {c: x[y.index(c)] for c in y}
    # AutoAttack leaves alone what is wrong already.
    wanted = y if method == "autoattack" else np.arange(len(x)) % 10
    return adversarial(net, x, np.array(wanted), attack, list(range(len(x))), starts.get)


@pytest.mark.parametrize("method", ATTACKS)
def test_every_attack_stays_in_its_budget_and_is_the_cpu_s(resnet, pixels, device, method):
    _, share = ATTACKS[method]
    found = perturbed(resnet, device, pixels, method)
    assert (found.dtype, found.shape) == (np.uint8, pixels.shape)
    # `adversarial` itself refuses more than the budget; without a gradient nothing would have moved.
    if method != "hop_skip_jump":
        assert (found != pixels).any()
    expected = perturbed(resnet, torch.device("cpu"), pixels, method)
    assert (np.abs(found.astype(int) - expected) > 1).mean() <= share


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
def test_every_precision_attacks_on_the_device(resnet, pixels, device, precision):
    if device.type == "cpu" and precision == "float16":
        pytest.skip("torch's float16 on a CPU is for storage; bfloat16 is the one that is used there")
    found = perturbed(resnet, device, pixels, "iterative", precision)
    assert 0 < np.abs(found.astype(int) - pixels).max() <= 8


def test_the_logits_are_the_cpu_s_and_tf32_differs_more(resnet, pixels, device):
    x = torch.from_numpy(pixels).float() / 255

    def logits(at: torch.device, precision: str = "float32") -> torch.Tensor:
        with torch.inference_mode():
            return classifiers.load(resnet, at, precision)(x.to(at)).cpu()

    expected, found = logits(torch.device("cpu")), logits(device)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    if device.type == "cuda" and torch.cuda.get_device_capability() >= (8, 0):
        off = (logits(device, "tf32") - expected).abs().max()
        assert off > (found - expected).abs().max()


@pytest.mark.parametrize("workers", [0, 2])
def test_reference_activations_are_the_cpu_s_through_pinned_memory(
    resnet, pixels, device, made, tmp_path, workers
):
    from PIL import Image

    for i, image in enumerate(pixels):
        for c in range(10):
            path = tmp_path / "reference" / f"class{c}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(path)
    found = {}
    for name in {"cpu", device.type}:
        found[name] = tmp_path / f"{name}.zarr.zip"
        activations.extract_reference(
            resnet, asked.folder(reference=str(tmp_path / "reference"), crop=32), found[name],
            number=0, count=2, layers=LAYERS, batch_size=7, device=name, workers=workers, made=made,
        )  # fmt: skip
    ours, theirs = store.read(found[device.type]), store.read(found["cpu"])
    for layer in LAYERS:
        assert ours[layer].shape[0] == 5 * len(pixels)
        np.testing.assert_allclose(ours[layer][:], theirs[layer][:], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(ours["label"][:], np.repeat(range(5), len(pixels)))


def test_stored_attacks_say_the_device_and_what_it_sees(resnet, device, made, tmp_path):
    dataset = asked.digits(test=20, size=32)
    original = tmp_path / "original.zarr.zip"
    images.collect(dataset, original, seed=0, workers=0, made=made)
    out = tmp_path / "attack.zarr.zip"
    attack = asked.attack("iterative", "a", eps=8, steps=2, step=4, target="random")
    attacks.perturb(resnet, original, out, attack=attack, seed=0, batch_size=7, device=device.type, made=made)
    stored = store.read(out)
    assert stored.attrs["device"].startswith(device.type)
    net = classifiers.load(resnet, device)
    with torch.inference_mode():
        seen = net(torch.from_numpy(stored["images"][:]).to(device).float() / 255).argmax(1)
    assert (seen.cpu().numpy() == stored["predicted"][:]).mean() > 0.9


def test_a_classifier_learns_on_the_device(device):
    torch.manual_seed(0)
    label = torch.arange(200) % 2
    x = torch.randint(0, 128, (200, 3, 8, 8), dtype=torch.uint8) + 100 * label.view(-1, 1, 1, 1).byte()
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    net = Classifier(network, [0.5] * 3, [0.2] * 3)
    rows = Labelled(torch.utils.data.TensorDataset(x, label), label.numpy(), [])
    classifiers.train(net, rows, Training(epochs=5, batch_size=20, lr=0.01), 0, device)
    assert net.mean.device.type == device.type
    with torch.inference_mode():
        right = net.eval()(x.to(device).float() / 255).argmax(1).cpu() == label
    assert right.float().mean() > 0.95
