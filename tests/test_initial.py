"""`detour init` and `detour layers`: a folder of images becomes a configuration that the workflow takes."""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from conftest import Workflow
from detour.command import app

pytestmark = pytest.mark.usefixtures("forked")


def pictures(root, rng, **counts: int) -> None:
    """Noise of 40 x 32 pixels: `class_name=count`."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Call `detour` in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str):
        return CliRunner().invoke(app, list(arguments))

    return call


def planned_by_snakemake(tmp_path, file: str) -> str:
    settings = yaml.safe_load((tmp_path / file).read_text())
    done = Workflow(tmp_path, settings).snakemake("--dry-run")
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_two_folders_become_a_configuration_that_snakemake_takes(begun, rng, tmp_path):
    pictures(tmp_path / "my images/train", rng, cat=30, dog=25)
    pictures(tmp_path / "my images/val", rng, cat=6, dog=8)
    done = begun("init", "my images")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "my.yaml").read_text()
    found = yaml.safe_load(text)
    assert found["run"] == "my-images"
    assert found["dataset"] == {
        "name": "image_folder", "reference": "my images/train", "test": "my images/val",
        "resize": 32, "crop": 32, "shards": 2,
    }  # fmt: skip
    assert found["classifier"] == {"model": "small_resnet", "weights": "train", "layers": "auto"}
    # Six images of a class are dealt into six groups.
    assert found["folds"] == {"count": 3, "stratify": "class"}
    assert found["detectors"][1]["k"] == [5, 10, 50]
    assert "# 2 classes, 55 images and 2 classes, 14 images" in text
    assert "layers: auto    # stem, blocks.0" in text
    assert "report" in planned_by_snakemake(tmp_path, "my.yaml")
    again = begun("init", "my images")
    assert again.exit_code == 2
    assert "my.yaml: is there already" in again.output
    assert (tmp_path / "my.yaml").read_text() == text
    printed = begun("layers", "my.yaml")
    assert printed.exit_code == 0, printed.output
    assert "blocks.7" in printed.output
    assert "compared" in printed.output


def test_one_folder_is_split_by_two_lists(begun, rng, tmp_path):
    pictures(tmp_path / "images", rng, **{"08": 24, "猫, x": 60})
    done = begun("init", "images", "--out", "own.yaml", "--model", "resnet18")
    assert done.exit_code == 0, done.output
    parts = [pd.read_csv(tmp_path / f"own-{part}.csv", dtype=str) for part in ("reference", "test")]
    assert [dict(part["label"].value_counts()) for part in parts] == [
        {"08": 14, "猫, x": 48},
        {"08": 10, "猫, x": 12},
    ]
    names = pd.concat(parts)["path"]
    assert names.is_unique
    assert all((tmp_path / "images" / name).is_file() for name in names)
    assert yaml.safe_load((tmp_path / "own.yaml").read_text())["classifier"]["model"] == "resnet18"
    assert "report" in planned_by_snakemake(tmp_path, "own.yaml")


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        ({}, [], "images: found 0 folders with images, expected two classes or more"),
        ({"a": 12, "b": 12}, ["--model", "nothing"], "classifier.model"),
        ({"a": 12, "b": 12}, ["--weights", "no.pt"], "classifier.weights: found 'no.pt', and no such file"),
        ({"a": 1, "b": 1}, [], "images: found 0 images to attack, expected at least 4"),
        ({"a": 12, "\udcff": 12}, [], "its name is not UTF-8, expected one that is; rename it"),
    ],
)
def test_what_the_workflow_would_refuse_is_not_written(begun, rng, tmp_path, images, options, said):
    (tmp_path / "images").mkdir()
    pictures(tmp_path / "images", rng, **images)
    done = begun("init", "images", *options)
    assert done.exit_code == 2
    assert said in done.output
    assert not [*tmp_path.glob("my*")]


@pytest.mark.parametrize("text", ["- a", "a: [", "a: 1\nrun: 2"])
def test_a_configuration_that_is_none_is_named(begun, tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    done = begun("layers", "run.yaml")
    assert done.exit_code == 2
    assert done.output.startswith("detour: ")
