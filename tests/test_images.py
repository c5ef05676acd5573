import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare
from sklearn.datasets import load_digits
from torchvision import transforms as v1
from torchvision.datasets.folder import IMG_EXTENSIONS

from detour import folders, images, store
from detour.images import Digits, Folder


@pytest.fixture
def folder(tmp_path, rng):
    """Two classes of PNGs of various sizes and modes, as reference, and one of them as test."""
    modes = ["RGB", "L", "RGBA", "RGB"]
    for part, classes in (("reference", ["cat", "dog"]), ("test", ["dog"])):
        for name in classes:
            (tmp_path / part / name).mkdir(parents=True)
            for i, mode in enumerate(modes):
                pixels = rng.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def folder_dataset(root, **options):
    return Folder(reference=str(root / "reference"), test=str(root / "test"), **{"crop": 32, **options})


def test_digits_are_split_once_by_the_seed_with_equal_shares():
    dataset = Digits(test=500, size=32, seed=0)
    test, reference = dataset.test_images(), dataset.reference_images()
    assert (len(test.label), len(reference.label)) == (500, 1297)
    shares = np.bincount(load_digits().target) * 500 / 1797
    assert np.abs(np.bincount(test.label) - shares).max() < 1.01
    together = torch.cat([part.images.tensors[0] for part in (test, reference)])
    whole = torch.cat(
        [
            part.images.tensors[0]
            for part in (Digits(10, 32, 1).test_images(), Digits(10, 32, 1).reference_images())
        ]
    )
    assert sorted(x.sum() for x in together) == sorted(x.sum() for x in whole)
    assert not np.array_equal(Digits(500, 32, 1).test_images().images.tensors[0], test.images.tensors[0])


def test_folder_gives_the_bytes_of_torchvision_s_reference_transform(folder):
    dataset = folder_dataset(folder, resize=36)
    transform = v1.Compose([v1.Resize(36), v1.CenterCrop(32), v1.PILToTensor()])
    found = dataset.reference_images()
    np.testing.assert_array_equal(found.label, [0] * 4 + [1] * 4)
    for i, name in enumerate(["cat"] * 4 + ["dog"] * 4):
        expected = transform(Image.open(folder / "reference" / name / f"{i % 4}.png").convert("RGB"))
        torch.testing.assert_close(found.images[i][0], expected, rtol=0, atol=0)


def test_test_classes_are_numbered_like_the_reference(folder):
    np.testing.assert_array_equal(folder_dataset(folder).test_images().label, [1] * 4)


def test_an_image_that_cannot_be_decoded_is_named(folder):
    broken = folder / "test" / "dog" / "0.png"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"dog/0\.png: cannot be decoded"):
        folder_dataset(folder).test_images().images[0]


@pytest.mark.parametrize("count", [1, 3, 10])
def test_shards_are_whole_classes_in_order_and_all_there_is(count):
    reference = Digits(test=500, size=8, seed=0).reference_images()
    shards = [images.shard(reference, 10, i, count) for i in range(count)]
    joined = np.concatenate([shard.label for shard in shards])
    np.testing.assert_array_equal(joined, np.sort(reference.label))
    assert sum(len(np.unique(shard.label)) for shard in shards) == 10
    pixels, label = shards[-1].images[0]
    assert label == shards[-1].label[0]
    assert pixels.dtype == torch.uint8


def test_targets_are_uniform_over_the_other_classes_and_stay_when_images_are_added():
    label = np.arange(3000) % 10
    found = images.targets(label, 10, seed=0, purpose="target")
    assert (found != label).all()
    assert chisquare(np.bincount((found - label) % 10)[1:]).pvalue > 1e-3
    np.testing.assert_array_equal(images.targets(label[:50], 10, 0, "target"), found[:50])
    assert (images.targets(label, 10, 0, "another") != found).mean() > 0.5


def test_store_has_the_bytes_that_are_attacked(made, tmp_path):
    dataset = Digits(test=30, size=16, seed=0)
    images.collect(dataset, tmp_path / "o.zarr.zip", seed=0, workers=2, made=made)
    found = store.read(tmp_path / "o.zarr.zip")
    assert (found["images"].shape, found["images"].dtype) == ((30, 3, 16, 16), np.uint8)
    np.testing.assert_array_equal(found["images"][:], dataset.test_images().images.tensors[0])
    np.testing.assert_array_equal(found["source"][:], np.arange(30))
    assert (found["target"][:] != found["label"][:]).all()
    assert found.attrs["classes"] == [str(i) for i in range(10)]
    digits = load_digits()
    rows = [int(name.removeprefix("digit ")) for name in found.attrs["names"]]
    np.testing.assert_array_equal(digits.target[rows], found["label"][:])


def test_folder_is_decoded_in_workers_and_rows_are_known_by_name(folder, made, tmp_path):
    dataset = folder_dataset(folder)
    images.collect(dataset, tmp_path / "o.zarr.zip", seed=0, workers=2, made=made)
    found = store.read(tmp_path / "o.zarr.zip")
    assert found.attrs["names"] == [f"dog/{i}.png" for i in range(4)]
    np.testing.assert_array_equal(found["images"][2], dataset.test_images().images[2][0])


def test_hidden_folders_are_no_classes_and_extensions_are_torchvision_s(folder):
    (folder / "reference" / ".ipynb_checkpoints").mkdir()
    assert folder_dataset(folder).classes == ["cat", "dog"]
    assert set(folders.EXTENSIONS) == set(IMG_EXTENSIONS)
    assert len(list(folders.images(folder / "test"))) == 4
