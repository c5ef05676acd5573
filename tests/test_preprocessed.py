"""The input pre-processing of Lee et al. 2018, beside a plain one: image by image, in float64, by inverses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.feature_extraction import create_feature_extractor

import asked
from detour import activations, classifiers, gaussians, preprocessed, store
from detour.detectors.versions import Run, Versions

CPU = torch.device("cpu")
LAYERS = {"maxpool": 64, "layer3.1": 256}
MAGNITUDES = [1e-9, 0.357, 2.55]


@pytest.fixture
def images(rng) -> np.ndarray:
    return rng.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)


def features(resnet: Path):
    """torchvision's own feature extraction, in float64."""
    net = classifiers.load(resnet, CPU)
    extractor = create_feature_extractor(net.network, list(LAYERS)).double()
    return lambda x: {
        name: value.mean((2, 3)) for name, value in extractor((x - net.mean.double()) / net.std).items()
    }


@pytest.fixture
def fitted(resnet, images, rng, made, tmp_path) -> dict[str, tuple[Path, np.ndarray, np.ndarray]]:
    """Gaussians of three classes around what the network gives, by layer: store, means and covariance."""
    found = {}
    with torch.no_grad():
        seen = features(resnet)(torch.from_numpy(images).double() / 255)
    for name, width in LAYERS.items():
        about = seen[name].numpy()
        mean = about.mean(0) + about.std() * rng.normal(size=(3, width))
        basis = rng.normal(size=(3 * width, width)) * about.std()
        covariance = basis.T @ basis / len(basis)
        path = tmp_path / f"{name}.zarr.zip"
        with store.create(path, made) as group:
            store.write(group, [{"mean": mean}])
            store.write(group, [{"whitening": gaussians.whitening(covariance)}])
        found[name] = path, mean, covariance
    return found


@pytest.fixture
def stored(resnet, images, fitted, made, tmp_path, write_store) -> Run:
    """What the stage makes of a set, in batches that do not divide it."""
    label = {"label": np.zeros(len(images), dtype=np.int64)}
    pictures, out, seen = write_store("set", {"images": images} | label), tmp_path / "p", tmp_path / "a"
    about = {"layers": list(LAYERS), "batch_size": 2, "device": "cpu", "made": made}
    paths = {name: path for name, (path, _, _) in fitted.items()}
    preprocessed.extract(resnet, pictures, [*paths.values()], out, magnitudes=MAGNITUDES, **about)
    activations.extract(resnet, pictures, seen, **about)
    return Run(preprocessed={"original": out}, activations={"original": seen}, gaussians=paths)


def confidence(f: torch.Tensor, mean: np.ndarray, precision: np.ndarray) -> tuple[torch.Tensor, int]:
    """Of one image: M, and which class is the nearest."""
    off = f - torch.from_numpy(mean)
    every = -torch.einsum("ci,ij,cj->c", off, torch.from_numpy(precision), off)
    return every.max(), int(every.argmax())


def test_images_are_moved_towards_each_layer_s_nearest_class(resnet, images, fitted, stored):
    seen_by = features(resnet)
    found = {size: Versions(stored, np.arange(5)).preprocessed(size) for size in MAGNITUDES}
    classes = set()
    for i, image in enumerate(images):
        for k, (name, (_, mean, covariance)) in enumerate(fitted.items()):
            precision = np.linalg.inv(covariance)
            x = (torch.from_numpy(image)[None].double() / 255).requires_grad_()
            before, c = confidence(seen_by(x)[name][0], mean, precision)
            classes.add(c)
            off = seen_by(x)[name][0] - torch.from_numpy(mean[c])
            (gradient,) = torch.autograd.grad(off @ torch.from_numpy(precision) @ off, x)
            for size in MAGNITUDES:
                with torch.no_grad():
                    moved = seen_by(x - size / 255 * gradient.sign())[name][0]
                expected = float(confidence(moved, mean, precision)[0])
                assert found[size][i, k] == pytest.approx(expected, rel=1e-3)
                # Which the step is for, and by more than the tolerance.
                if size == 0.357:
                    assert expected > 0.99 * float(before.detach())
    assert len(classes) > 1


def test_without_a_step_it_is_what_is_made_of_the_activations(stored):
    plain = asked.detector("mahalanobis").numbers(Versions(stored, np.arange(5)))
    moved = asked.detector("mahalanobis", magnitude=1e-9).numbers(Versions(stored, np.arange(5)))
    np.testing.assert_allclose(moved, plain, rtol=1e-4)
    step = asked.detector("mahalanobis", magnitude=0.357).numbers(Versions(stored, np.arange(5)))
    assert (step > plain).all()
