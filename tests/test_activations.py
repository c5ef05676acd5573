import numpy as np
import pytest
import torch
from torchvision.models.feature_extraction import create_feature_extractor

from detour import activations, classifiers, images, store
from detour.images import Digits

LAYERS = ["maxpool", "layer1.0", "layer3.1", "layer4.1"]
CPU = torch.device("cpu")


def oracle(resnet, x: torch.Tensor) -> dict[str, np.ndarray]:
    """torchvision's own feature extraction, averaged in float64."""
    net = classifiers.load(resnet, CPU)
    extract = create_feature_extractor(net.network, LAYERS)
    with torch.no_grad():
        found = extract((x.float() / 255 - net.mean) / net.std)
    return {name: value.double().mean((2, 3)).numpy() for name, value in found.items()}


def test_layers_are_torchvision_s_features_averaged_over_space(resnet):
    x = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    net = classifiers.load(resnet, CPU)
    (found,) = activations.record(net, LAYERS, [(x, torch.arange(5))])
    for name, expected in oracle(resnet, x).items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(found["logits"], net(x.float() / 255), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["predicted"], found["logits"].argmax(1))


@pytest.mark.parametrize(("shape", "axes"), [((3, 8), ()), ((3, 5, 8), (1,)), ((3, 8, 4, 6), (2, 3))])
def test_average_is_over_space_or_tokens(shape, axes):
    x = torch.rand(shape)
    np.testing.assert_allclose(activations.average(x), x.numpy().mean(axes), rtol=1e-5)


def test_average_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 4, 5\)"):
        activations.average(torch.zeros(1, 2, 3, 4, 5))


@pytest.fixture
def dataset():
    return Digits(test=24, size=32, seed=0)


def test_set_and_reference_are_stored_row_for_row(resnet, dataset, made, tmp_path):
    options = {"layers": LAYERS, "device": "cpu", "made": made}
    images.collect(dataset, tmp_path / "o.zarr.zip", seed=0, workers=0, made=made)
    activations.extract(resnet, tmp_path / "o.zarr.zip", tmp_path / "a.zarr.zip", batch_size=7, **options)
    stored, found = store.read(tmp_path / "o.zarr.zip"), store.read(tmp_path / "a.zarr.zip")
    np.testing.assert_array_equal(found["label"][:], stored["label"][:])
    assert found.attrs["layers"] == LAYERS
    for name, expected in oracle(resnet, torch.from_numpy(stored["images"][:])).items():
        np.testing.assert_allclose(found[name][:], expected, rtol=1e-4, atol=1e-5)

    small = Digits(test=1750, size=32, seed=0)
    shard = images.shard(small.reference_images(), 10, 1, 3)
    activations.extract_reference(
        resnet, small, tmp_path / "r.zarr.zip", number=1, count=3, batch_size=6, workers=0, **options
    )
    found = store.read(tmp_path / "r.zarr.zip")
    np.testing.assert_array_equal(found["label"][:], shard.label)
    pixels = torch.stack([shard.images[i][0] for i in range(len(shard.label))])
    np.testing.assert_allclose(found["layer4.1"][:], oracle(resnet, pixels)["layer4.1"], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_gpu_gives_the_activations_of_the_cpu(resnet):
    x = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    found = [
        next(activations.record(classifiers.load(resnet, torch.device(d)), LAYERS, [(x, torch.arange(5))]))
        for d in ("cpu", "cuda")
    ]
    for name in LAYERS:
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-2, atol=1e-3)
