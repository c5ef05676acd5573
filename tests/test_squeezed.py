"""Squeezed images, each pixel by itself, and what the network says of them."""

import numpy as np
import pytest
import torch

from detour import classifiers, squeezed, store

CPU = torch.device("cpu")


@pytest.fixture
def images(rng) -> np.ndarray:
    """Beside random ones, one with every value."""
    x = rng.integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    x[0, 0] = np.arange(256).reshape(16, 16)
    return x


def nearest_level(images: np.ndarray, bits: int) -> np.ndarray:
    levels = np.arange(2**bits) / (2**bits - 1)
    off = np.abs(images[..., None] / 255 - levels)
    # No value is half-way between two levels.
    assert (np.diff(np.sort(off, axis=-1)[..., :2]) > 1e-6).all()
    return levels[off.argmin(-1)]


@pytest.mark.parametrize("bits", [1, 2, 5, 7, 8])
def test_fewer_bits_are_the_nearest_of_so_many_levels(images, bits):
    found = squeezed.fewer_bits(images, bits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, nearest_level(images, bits), rtol=0, atol=1e-7)


def median(images: np.ndarray, size: int) -> np.ndarray:
    """By the paper's words: the window ends at the pixel where its side is even, and of two the greater counts."""
    before = size // 2
    wide = np.pad(images, [(0, 0), (0, 0), (before, size), (before, size)], mode="symmetric")
    h, w = images.shape[2:]
    shifted = [wide[:, :, i : i + h, j : j + w] for i in range(size) for j in range(size)]
    return np.sort(shifted, axis=0)[size**2 // 2] / 255


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_smoothing_is_the_median_of_each_window(images, size):
    found = squeezed.smoothed(images, size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, median(images, size), rtol=0, atol=1e-7)


def test_the_logits_are_those_of_the_squeezed_images(resnet, images, write_store, made, tmp_path):
    """In batches that do not divide them."""
    stored, out = write_store("set", {"images": images}), tmp_path / "out.zarr.zip"
    squeezed.extract(resnet, stored, out, bits=[1, 5], median=[2], batch_size=2, device="cpu", made=made)
    expected = {
        "bits-1": nearest_level(images, 1), "bits-5": nearest_level(images, 5), "median-2": median(images, 2),
    }  # fmt: skip
    found, net = store.read(out), classifiers.load(resnet, CPU)
    assert {name for name, _ in found.members()} == {*expected}
    for name, x in expected.items():
        with torch.no_grad():
            logits = net(torch.from_numpy(x.astype(np.float32)))
        np.testing.assert_allclose(found[name][:], logits, rtol=1e-4, atol=1e-4)
