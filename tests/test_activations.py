import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.feature_extraction import create_feature_extractor

import asked
from detour import activations, classifiers, images, store

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


@pytest.fixture
def dataset():
    return asked.digits(test=24, size=32)


def test_set_and_reference_are_stored_row_for_row(resnet, dataset, made, tmp_path):
    options = {"layers": LAYERS, "device": "cpu", "made": made}
    images.collect(dataset, tmp_path / "o.zarr.zip", seed=0, workers=0, made=made)
    activations.extract(resnet, tmp_path / "o.zarr.zip", tmp_path / "a.zarr.zip", batch_size=7, **options)
    stored, found = store.read(tmp_path / "o.zarr.zip"), store.read(tmp_path / "a.zarr.zip")
    np.testing.assert_array_equal(found["label"][:], stored["label"][:])
    assert found.attrs["layers"] == LAYERS
    for name, expected in oracle(resnet, torch.from_numpy(stored["images"][:])).items():
        np.testing.assert_allclose(found[name][:], expected, rtol=1e-4, atol=1e-5)

    small = asked.digits(test=1750, size=32)
    shard = images.shard(small, 1, 3)
    activations.extract_reference(
        resnet, small, tmp_path / "r.zarr.zip", number=1, count=3, batch_size=6, workers=0, **options
    )
    found = store.read(tmp_path / "r.zarr.zip")
    np.testing.assert_array_equal(found["label"][:], shard.label)
    assert found.attrs["skipped"] == []
    pixels = torch.stack([shard.images[i][0] for i in range(len(shard.label))])
    np.testing.assert_allclose(found["layer4.1"][:], oracle(resnet, pixels)["layer4.1"], rtol=1e-4, atol=1e-5)


def test_reference_images_that_cannot_be_decoded_are_left_out_of_the_store(resnet, made, tmp_path, rng):
    for name in (str(c) for c in range(10)):
        (tmp_path / "r" / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "r" / name / f"{i}.png")
    whole = asked.folder(reference=str(tmp_path / "r"), crop=32)
    options = {"number": 0, "count": 2, "layers": LAYERS, "device": "cpu", "batch_size": 4, "workers": 2}
    activations.extract_reference(resnet, whole, tmp_path / "a.zarr.zip", made=made, **options)
    for name in ("0/1.png", "4/2.png"):
        broken = tmp_path / "r" / name
        broken.write_bytes(broken.read_bytes()[:-500])
    activations.extract_reference(resnet, whole, tmp_path / "b.zarr.zip", made=made, **options)
    before, after = store.read(tmp_path / "a.zarr.zip"), store.read(tmp_path / "b.zarr.zip")
    assert [line.split(": ")[0][-7:] for line in after.attrs["skipped"]] == ["0/1.png", "4/2.png"]
    kept = [i for i in range(15) if i not in (1, 14)]
    np.testing.assert_array_equal(after["label"][:], np.repeat(range(5), 3)[kept])
    for layer in LAYERS:
        np.testing.assert_allclose(after[layer][:], before[layer][:][kept], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_reduced_precision_is_near_float32_and_stored_in_it(resnet, made, tmp_path, precision, tolerance):
    dataset = asked.digits(test=1750, size=32)
    found = {}
    for name in ("float32", precision):
        activations.extract_reference(
            resnet, dataset, tmp_path / f"{name}.zarr.zip", number=0, count=1, layers=LAYERS, device="cpu",
            batch_size=20, workers=0, made=made, precision=name,
        )  # fmt: skip
        found[name] = store.read(tmp_path / f"{name}.zarr.zip")
    for layer in LAYERS:
        x, near = found["float32"][layer][:], found[precision][layer][:]
        assert near.dtype == np.float32
        assert not np.array_equal(x, near)
        assert np.abs(near - x).max() < tolerance * np.abs(x).max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_gpu_gives_the_activations_of_the_cpu(resnet):
    x = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    found = [
        next(activations.record(classifiers.load(resnet, torch.device(d)), LAYERS, [(x, torch.arange(5))]))
        for d in ("cpu", "cuda")
    ]
    for name in LAYERS:
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-2, atol=1e-3)
