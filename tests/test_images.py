import hashlib
import io
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare
from sklearn.datasets import load_digits
from torchvision import transforms as v1
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.models import Inception_V3_Weights

import asked
from detour import folders, images, store
from detour.pixels import decoded

pytestmark = pytest.mark.usefixtures("forked")


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
    return asked.folder(reference=str(root / "reference"), test=str(root / "test"), **{"crop": 32, **options})


def test_digits_are_split_with_equal_shares_and_all_there():
    dataset = asked.digits(test=500, size=32)
    test, reference = dataset.test_images(), dataset.reference_images()
    assert (len(test.label), len(reference.label)) == (500, 1297)
    shares = np.bincount(load_digits().target) * 500 / 1797
    assert np.abs(np.bincount(test.label) - shares).max() < 1.01
    together = torch.cat([part.images.tensors[0] for part in (test, reference)])
    whole = torch.cat(
        [
            part.images.tensors[0]
            for part in (asked.digits(10, 32).test_images(), asked.digits(10, 32).reference_images())
        ]
    )
    assert sorted(x.sum() for x in together) == sorted(x.sum() for x in whole)


def test_digits_of_a_smaller_test_are_among_those_of_a_larger_one():
    tests = [set(asked.digits(n, 8).test_images().names) for n in (10, 11, 100, 499, 500, 1787)]
    assert [len(names) for names in tests] == [10, 11, 100, 499, 500, 1787]
    for smaller, larger in itertools.pairwise(tests):
        assert smaller < larger


def test_digits_held_out_are_the_same_everywhere():
    """The packaged weights were trained on the others: another order would test on training images."""
    names = "\n".join(asked.digits(500, 8).reference_images().names)
    assert hashlib.sha256(names.encode()).hexdigest()[:16] == "e5489c6acecb921b"


def test_folder_gives_the_bytes_of_torchvision_s_reference_transform(folder):
    dataset = folder_dataset(folder, resize=36)
    transform = v1.Compose([v1.Resize(36), v1.CenterCrop(32), v1.PILToTensor()])
    found = dataset.reference_images()
    np.testing.assert_array_equal(found.label, [0] * 4 + [1] * 4)
    for i, name in enumerate(["cat"] * 4 + ["dog"] * 4):
        expected = transform(Image.open(folder / "reference" / name / f"{i % 4}.png").convert("RGB"))
        torch.testing.assert_close(found.images[i][0], expected, rtol=0, atol=1)


def test_test_classes_are_numbered_like_the_reference(folder):
    np.testing.assert_array_equal(folder_dataset(folder).test_images().label, [1] * 4)


def test_an_image_that_cannot_be_decoded_is_named(folder):
    broken = folder / "test" / "dog" / "0.png"
    broken.write_bytes(broken.read_bytes()[:300])
    for workers in (0, 2):
        with pytest.raises(ValueError, match=r"dog/0\.png: cannot be decoded.*; replace or remove it"):
            list(images.batches(folder_dataset(folder).test_images(), 3, workers, "test"))


@pytest.mark.parametrize("count", [1, 3, 10])
def test_shards_are_whole_classes_in_order_and_all_there_is(count):
    dataset = asked.digits(test=500, size=8)
    shards = [images.shard(dataset, i, count) for i in range(count)]
    joined = np.concatenate([shard.label for shard in shards])
    np.testing.assert_array_equal(joined, np.sort(dataset.reference_images().label))
    assert sum(len(np.unique(shard.label)) for shard in shards) == 10
    pixels, label = shards[-1].images[0]
    assert label == shards[-1].label[0]
    assert pixels.dtype == torch.uint8


def test_shards_of_folders_are_listed_alone(folder):
    dataset = folder_dataset(folder)
    whole = dataset.reference_images()
    shards = [images.shard(dataset, i, 2) for i in range(2)]
    assert [name for shard in shards for name in shard.names] == whole.names
    assert whole.names == [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(4)]
    assert set(shards[1].label) == {1}


def test_at_most_so_many_images_of_a_class_are_drawn_by_the_seed(folder):
    def names(seed, per_class):
        return folder_dataset(folder, per_class=per_class, seed=seed).reference_images().names

    assert len(names(0, 2)) == 4
    assert names(0, 2) == names(0, 2) == sorted(names(0, 2))
    assert set(names(0, 1)) < set(names(0, 2)) < set(names(0, 3)) < set(names(0, 4))
    assert len({tuple(names(seed, 2)) for seed in range(8)}) > 1
    assert len(folder_dataset(folder, per_class=1).test_images().names) == 4


def encoded(mode: str, kind: str, size=(60, 40)) -> bytes:
    """A smooth image, as the bytes of a file."""
    ramp = np.add.outer(np.arange(size[1]), np.arange(size[0]))
    pixels = np.stack([ramp * 2, 255 - ramp, ramp], axis=2).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


FORMATS = [
    *[(mode, "JPEG") for mode in ("RGB", "L", "CMYK")],
    *[(mode, "PNG") for mode in ("RGB", "L", "LA", "RGBA", "P", "1")],
    ("RGB", "BMP"), ("RGB", "TIFF"), ("CMYK", "TIFF"), ("RGB", "WEBP"), ("RGB", "PPM"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "kind"), FORMATS)
def test_every_format_and_colour_space_becomes_the_rgb_of_pillow(mode, kind):
    content = encoded(mode, kind)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(decoded(content), expected)


@pytest.mark.parametrize(
    "content",
    [
        encoded("RGB", "JPEG")[:-40],
        encoded("RGB", "JPEG")[:200],
        encoded("RGB", "PNG")[:100],
        b"",
        b"<html>not found</html>",
    ],
)
def test_what_is_no_whole_image_cannot_be_decoded(content):
    with pytest.raises(ValueError, match="cannot be decoded"):
        decoded(content)


@pytest.mark.parametrize("workers", [0, 2])
def test_reference_images_that_cannot_be_decoded_are_left_out_by_name(folder, workers, caplog):
    dataset = folder_dataset(folder)
    whole = dataset.reference_images()
    for name in ("cat/1.png", "dog/0.png", "dog/1.png"):
        (folder / "reference" / name).write_bytes(b"no image")
    skipped = []
    found = list(images.batches(whole, 2, workers, "reference", skipped=skipped))
    assert [line.split("/")[-1].split(":")[0] for line in skipped] == ["1.png", "0.png", "1.png"]
    assert "reference: left out 3 of 8 images that cannot be decoded" in caplog.text
    np.testing.assert_array_equal(torch.cat([label for _, label in found]), [0, 0, 0, 1, 1])
    kept = [i for i in range(8) if i not in (1, 4, 5)]
    for pixels, i in zip(torch.cat([x for x, _ in found]), kept, strict=True):
        torch.testing.assert_close(pixels, whole.images[i][0])


def test_workers_do_with_a_container_s_shared_memory(folder, monkeypatch, caplog):
    """64 MB, in which batches find no room: then none is put there, and images and labels are the same."""
    whole = folder_dataset(folder).reference_images()
    (folder / "reference" / "cat" / "1.png").write_bytes(b"no image")

    def found():
        skipped = []
        batched = list(images.batches(whole, 3, 2, "reference", skipped=skipped))
        assert len(skipped) == 1
        return batched

    expected = found()
    monkeypatch.setattr(images.shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**20))
    # Forked workers have it too.
    monkeypatch.setattr(torch.UntypedStorage, "_new_using_fd_cpu", lambda size: 1 / 0)
    monkeypatch.setattr(torch.UntypedStorage, "_new_using_filename_cpu", lambda size: 1 / 0)
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", lambda self: 1 / 0)
    caplog.set_level("INFO")
    for (x, label), (other, its) in zip(found(), expected, strict=True):
        torch.testing.assert_close((x, label), (other, its), rtol=0, atol=0)
        assert (x.dtype, label.dtype) == (torch.uint8, torch.int64)
    assert "/dev/shm has 67 MB free: the workers pass images on through pipes" in caplog.text
    monkeypatch.setattr(images.shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**30))
    with pytest.raises(ZeroDivisionError):
        found()


def test_a_file_that_cannot_be_read_is_an_error_and_not_left_out(folder):
    dataset = folder_dataset(folder)
    whole = dataset.reference_images()
    (folder / "reference" / "cat" / "1.png").unlink()
    with pytest.raises(FileNotFoundError):
        list(images.batches(whole, 2, 0, "reference", skipped=[]))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (342, 299), (64, 64), (1024, 700)])
def test_preprocessing_is_that_of_torchvision_s_inception_within_a_level(tmp_path, size):
    """Its own transform, of Pillow's decoding, which takes off the mean last."""
    path = tmp_path / "class" / "image.jpg"
    path.parent.mkdir()
    path.write_bytes(encoded("RGB", "JPEG", size))
    preset = Inception_V3_Weights.IMAGENET1K_V1.transforms()
    assert (preset.resize_size, preset.crop_size) == ([342], [299])
    ours = asked.folder(reference=str(tmp_path), resize=342, crop=299).reference_images().images[0][0]
    theirs = preset(Image.open(path).convert("RGB"))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preset.mean, preset.std))
    torch.testing.assert_close(ours.float(), (theirs * std + mean) * 255, rtol=0, atol=1.01)


@pytest.fixture
def competition(tmp_path):
    """Three images of the NIPS 2017 layout, and two classes of reference images."""
    (tmp_path / "images").mkdir()
    rows = ["ImageId,URL,TrueLabel,TargetClass", "aa,u,1,2", "bb,u,2,1", "cc,u,2,1"]
    (tmp_path / "images.csv").write_text("\n".join(rows))
    for i, name in enumerate(("aa", "bb", "cc")):
        Image.new("RGB", (32, 32), (i, 0, 0)).save(tmp_path / "images" / f"{name}.png")
    for name in ("cat", "dog"):
        (tmp_path / "reference" / name).mkdir(parents=True)
        Image.new("RGB", (50, 40)).save(tmp_path / "reference" / name / "0.png")
    return tmp_path


def competition_dataset(root, **options):
    return asked.nips2017(reference=str(root / "reference"), test=str(root / "images"), crop=32, **options)


def test_nips_images_have_their_classes_and_targets_counted_from_0(competition, made, tmp_path):
    dataset = competition_dataset(competition)
    images.collect(dataset, tmp_path / "o.zarr.zip", seed=0, workers=2, made=made)
    found = store.read(tmp_path / "o.zarr.zip")
    np.testing.assert_array_equal(found["label"][:], [0, 1, 1])
    np.testing.assert_array_equal(found["target"][:], [1, 0, 0])
    np.testing.assert_array_equal(found["images"][:, 0, 0, 0], [0, 1, 2])
    assert found.attrs["names"] == ["aa.png", "bb.png", "cc.png"]
    assert dataset.reference_images().images[0][0].shape == (3, 32, 32)


def test_nips_images_of_another_size_are_an_error(competition):
    Image.new("RGB", (32, 31)).save(competition / "images" / "bb.png")
    with pytest.raises(ValueError, match=r"bb.png: found 32 x 31 pixels, expected 32 x 32"):
        list(images.batches(competition_dataset(competition).test_images(), 3, 0, "test"))


def test_nips_images_that_are_missing_are_an_error_or_left_out(competition):
    (competition / "images" / "bb.png").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 images of its list: bb\.png"):
        competition_dataset(competition).test_images()
    assert competition_dataset(competition, missing="skip").test_images().names == ["aa.png", "cc.png"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["../aa,u,1,2"], r"line 2: ImageId: found '\.\./aa', expected the name of a file in the folder"),
        ([".,u,1,2"], "ImageId: found '.'"),
        ([",u,1,2"], "ImageId: found ''"),
        (["aa,u,1,2", "aa,u,2,1"], "names 1 images more than once"),
        (["aa,u,0,2"], "line 2: TrueLabel, TargetClass: found 0, 2, expected two classes, counted from 1"),
        (["aa,u,2,2"], "found 2, 2, expected two classes"),
        (["aa,u,cat,2"], "found 'cat', '2', expected whole numbers"),
        (["aa,u,1"], "found '1', None, expected whole numbers"),
        (["aa,u,1,2"], r"has 2 images that .*images\.csv does not name: bb\.png, cc\.png"),
    ],
)
def test_a_list_that_cannot_be_is_an_error(competition, rows, message):
    (competition / "images.csv").write_text("\n".join(["ImageId,URL,TrueLabel,TargetClass", *rows]))
    with pytest.raises(ValueError, match=message):
        folders.nips2017(competition / "images")


def test_a_list_is_found_in_the_folder_beside_it_or_where_it_is_said(competition):
    listing = competition / "images.csv"
    expected = folders.nips2017(competition / "images")
    for other in (competition / "dev_dataset.csv", competition / "images" / "dev_dataset.csv"):
        listing = listing.rename(other)
        assert folders.nips2017(competition / "images") == expected
    listing = listing.rename(competition / "mine.csv")
    assert folders.nips2017(competition / "images", listing) == expected
    with pytest.raises(ValueError, match="found none of images.csv, dev_dataset.csv"):
        folders.nips2017(competition / "images")
    listing.write_text("ImageId,TrueLabel\naa,1")
    with pytest.raises(ValueError, match="found no column TargetClass"):
        folders.nips2017(competition / "images", listing)


def test_targets_are_uniform_over_the_other_classes_and_stay_when_images_are_added():
    label = np.arange(3000) % 10
    keys = np.arange(3000) * 7
    found = images.targets(label, 10, seed=0, purpose="target", keys=keys)
    assert (found != label).all()
    assert chisquare(np.bincount((found - label) % 10)[1:]).pvalue > 1e-3
    np.testing.assert_array_equal(images.targets(label[:50], 10, 0, "target", keys[:50]), found[:50])
    assert (images.targets(label, 10, 0, "another", keys) != found).mean() > 0.5


def test_store_has_the_bytes_that_are_attacked(made, tmp_path):
    dataset = asked.digits(test=30, size=16)
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
    (folder / "test" / "dog" / "._0.png").touch()
    assert folder_dataset(folder).classes == ["cat", "dog"]
    assert set(folders.EXTENSIONS) == set(IMG_EXTENSIONS)
    assert len(list(folders.images(folder / "test"))) == 4
