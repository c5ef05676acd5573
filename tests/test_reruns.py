"""What a change reruns: exactly what it touches, asked of Snakemake file by file."""

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from conftest import Workflow
from detour import classifiers, store

# Patterns of what a run makes, without the ending of stores.
SCORED = (
    r"(scores|histories|metrics|summary)(\.csv)?|figures/(intervals|histories|roc|transfer).*|report\.html"
)
ATTACKED = r"adaptive/.*|adaptive(\.csv)?|figures/adaptive.*"
TRAINED = rf"detectors/.*|{ATTACKED}|{SCORED}"
# What attacks and activations are behind, besides the detectors.
JUDGED = rf"(verdicts|outcomes)(\.csv)?|figures/.*|{TRAINED}"


def plan(workflow: Workflow, *options: str, **environment: str) -> tuple[set[str], set[str]]:
    """What the same command would make, and all that it is about."""
    asked = workflow.asked("--summary", *options, **environment)
    assert asked.returncode == 0, asked.stdout
    lines = asked.stdout[asked.stdout.index("output_file\t") :].splitlines()
    prefix = f"results/{workflow.settings['run']}/"
    found = {
        row["output_file"].removeprefix(prefix).removesuffix(".zarr.zip"): row["plan"]
        for row in csv.DictReader(lines, delimiter="\t")
    }
    return {name for name, plan in found.items() if plan != "no update"}, set(found)


def assert_reruns(pattern: str, workflow: Workflow, *options: str, **environment: str) -> None:
    made, everything = plan(workflow, *options, **environment)
    expected = {name for name in everything if re.fullmatch(pattern, name)}
    assert made == expected
    for part in re.split(r"\|(?![^(]*\))", pattern) if pattern else []:
        assert any(re.fullmatch(part, name) for name in made), f"nothing is like {part}"


def edit(workflow: Workflow, file: str, old: str, new: str) -> None:
    path = workflow.folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def sources(workflow: Workflow) -> list[Path]:
    """Every file of the workflow that is not a result."""
    hidden = (".snakemake", ".git", "results")
    return [
        path
        for path in workflow.folder.rglob("*")
        if path.is_file() and path.relative_to(workflow.folder).parts[0] not in hidden
    ]


def test_nothing_changed(copied):
    assert_reruns("", copied)
    assert_reruns("", copied, "--cores", "1")
    for path in sources(copied):
        path.touch()
    copied.settings = dict(reversed(copied.settings.items()))
    copied.settings["attacks"] = [dict(reversed(a.items())) for a in copied.settings["attacks"]]
    assert_reruns("", copied)


def test_git_checkout_away_and_back(copied):
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=copied.folder,
                       check=True, capture_output=True)  # fmt: skip

    git("init", "--initial-branch", "here")
    (copied.folder / ".gitignore").write_text("results\n.snakemake\n")
    git("add", ".")
    git("commit", "--message", "here")
    git("checkout", "-b", "there")
    for path in sources(copied):
        if path.suffix in (".py", ".smk", ".rst", ".html"):
            path.write_text(path.read_text() + "\nthere = 1\n")
    git("commit", "--all", "--message", "there")
    git("checkout", "here")
    assert_reruns("", copied)


def test_comments_and_docstrings_anywhere(copied):
    for path in sources(copied):
        if path.suffix in (".py", ".smk") or path.name == "Snakefile":
            text = re.sub(r'"""(?=\w)', '"""Another docstring. ', path.read_text())
            path.write_text(f"# A comment.\n\n{text}\n# Another.\n")
    assert_reruns("", copied)


# What is changed, in the configuration or the code, and what has to be made again.
CONFIGURATION = {
    "eps of an attack": (
        lambda settings: settings["attacks"][0].update(eps=24),
        rf"(images|activations|neighbours|distances/[^/]*)/step|{JUDGED}",
    ),
    "a new attack": (
        lambda settings: settings["attacks"].append({"name": "new", "method": "fgsm", "eps": 8}),
        rf"(images|activations|neighbours|distances/[^/]*)/new|{JUDGED}",
    ),
    "epochs of a detector": (
        lambda settings: settings["detectors"][0].update(epochs=4),
        rf"(detectors|adaptive)/lstm/.*|adaptive(\.csv)?|figures/adaptive.*|{SCORED}",
    ),
    "another metric": (
        lambda settings: settings["detectors"][2].update(metric="l2"),
        rf"distances/centroid-l2/.*|detectors/logistic/.*|{SCORED}",
    ),
    "another representative": (
        lambda settings: settings["detectors"][2].update(representative="medoid"),
        rf"distances/medoid-cosine/.*|detectors/logistic/.*|{SCORED}",
    ),
    "one seed more": (
        lambda settings: settings["seeds"].append(2),
        rf"detectors/lstm/seed-2/.*|{SCORED}",
    ),
    "steps of an attack on detectors": (
        lambda settings: settings["adaptive"].update(steps=4),
        rf"{ATTACKED}|report\.html",
    ),
    "more neighbours": (
        lambda settings: settings["detectors"][1].update(k=[5, 101]),
        rf"neighbours/.*|detectors/knn/.*|{SCORED}",
    ),
    "a new detector": (
        lambda settings: settings["detectors"].append({"name": "new", "method": "knn", "k": [3]}),
        rf"detectors/new/.*|{SCORED}",
    ),
    "number of folds": (lambda settings: settings["folds"].update(count=3), rf"folds(\.csv)?|{TRAINED}"),
    "a layer less": (
        lambda settings: settings["classifier"]["layers"].pop(1),
        rf"activations/.*|medoids/.*|gaussians/.*|distances/.*|neighbours/.*|{JUDGED}",
    ),
    "another classifier": (
        lambda settings: settings["classifier"].update(weights="train"),
        rf"classifier\.pt|images/(?!original).*|activations/.*|medoids/.*|gaussians/.*|distances/.*|neighbours/.*|{JUDGED}",
    ),
    "number of shards": (
        lambda settings: settings["dataset"].update(shards=3),
        rf"activations/reference/.*|medoids/.*|gaussians/.*|distances/.*|neighbours/.*|figures/(path|tsne).*|{TRAINED}",
    ),
    "samples shown": (
        lambda settings: settings["figures"].update(samples=3),
        r"figures/samples.*|report\.html",
    ),
}


@pytest.mark.parametrize("change", CONFIGURATION)
def test_configuration(copied, change):
    make, reruns = CONFIGURATION[change]
    make(copied.settings)
    assert_reruns(reruns, copied)


LIBRARY = "workflow_scripts/detour"
CODE = {
    "attacks": (f"{LIBRARY}/attacks.py", "METHODS:", "NEW = 1\nMETHODS:",
                rf"(images|activations|neighbours|distances/[^/]*)/(step|noise)|{JUDGED}"),
    "medoids": (f"{LIBRARY}/medoids.py", "CACHED = 2**18", "CACHED = 2**17",
                rf"medoids/.*|gaussians/.*|distances/.*|figures/path.*|detectors/(?!knn).*|{ATTACKED}|{SCORED}"),
    "one detector": (f"{LIBRARY}/detectors/neighbours.py", "1 - agree", "1.0 - agree", rf"detectors/knn/.*|{SCORED}"),
    "figures": (f"{LIBRARY}/figures.py", '"#0072B2"', '"#0072B3"', r"figures/.*|report\.html"),
    "one script": ("workflow_scripts/fold.py", "import json", "import json\nNEW = 1", rf"folds(\.csv)?|{TRAINED}"),
    "template of the report": ("report/report.html", "<body", "<body class='new'", r"report\.html"),
    "caption": ("report/roc.rst", " ", "  ", r"report\.html"),
}  # fmt: skip


@pytest.mark.parametrize("change", CODE)
def test_code(copied, change):
    file, old, new, reruns = CODE[change]
    edit(copied, file, old, new)
    assert_reruns(reruns, copied)


@pytest.mark.parametrize(
    ("library", "release", "reruns"),
    [
        ("cleverhans", "9.9.0", rf"(images|activations|neighbours|distances/[^/]*)/(step|noise)|{JUDGED}"),
        ("torch", "9.9.0", rf"classifier\.pt|images/.*|activations/.*|medoids/.*|gaussians/.*|distances/.*|neighbours/.*|folds(\.csv)?|{JUDGED}"),
        # Of functions that import where they need it, too: of those that read the digits, and deal the folds.
        ("scikit-learn", "9.9.0", rf"classifier\.pt|images/.*|activations/.*|medoids/.*|gaussians/.*|distances/.*|neighbours/.*|folds(\.csv)?|{JUDGED}"),
        ("scipy", "9.9.0", rf"medoids/.*|gaussians/.*|distances/.*|figures/.*|detectors/(?!knn).*|{ATTACKED}|{SCORED}"),
        ("torch", "a patch", ""),
        ("zarr", "9.9.0", ""),
        ("dask", "9.9.0", ""),
        ("matplotlib", "9.9.0", ""),
    ],
)  # fmt: skip
def test_library_upgrades(copied, tmp_path, library, release, reruns):
    if release == "a patch":
        release = ".".join([*torch.__version__.split(".")[:2], "99"])
    upgraded = tmp_path / "upgraded" / f"{library.replace('-', '_')}-{release}.dist-info"
    upgraded.mkdir(parents=True)
    (upgraded / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {library}\nVersion: {release}\n")
    assert_reruns(reruns, copied, PYTHONPATH=str(upgraded.parent))


IN_FOLDERS = {
    "run": "folders",
    "dataset": {
        "name": "image_folder",
        "reference": "reference",
        "test": "test",
        "crop": 32,
        "shards": 3,
    },
    "classifier": {"model": "small_resnet", "weights": "weights.pt", "layers": ["stem", "blocks.7"]},
    "attacks": [{"name": "step", "method": "fgsm", "eps": 8}],
    "folds": {"count": 2},
    "detectors": [{"name": "lstm", "method": "lstm"}],
}


@pytest.fixture(scope="session")
def measured(shared) -> Workflow:
    """A run of images in folders and of weights in a file, up to its distances."""

    def run(folder: Path) -> None:
        pictures(folder)
        ran = Workflow(folder, IN_FOLDERS).snakemake("distances")
        assert ran.returncode == 0, ran.stdout

    return Workflow(shared("folders", run), IN_FOLDERS)


def pictures(folder: Path) -> None:
    """Eight reference and five test images of each of three classes, and weights of a network."""
    digits = load_digits()
    for c in range(3):
        for i, row in enumerate(np.flatnonzero(digits.target == c)[:13]):
            path = folder / ("reference" if i < 8 else "test") / f"digit{c}" / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[row] * 15).astype(np.uint8)).resize((32, 32)).save(path)
    torch.save(classifiers.untrained("small_resnet", 3, seed=0).state_dict(), folder / "weights.pt")


@pytest.fixture
def in_folders(measured, tmp_path) -> Workflow:
    shutil.copytree(measured.folder, tmp_path / "copy")
    return Workflow(tmp_path / "copy", json.loads(json.dumps(measured.settings)))


def test_files_that_are_touched_or_written_again(in_folders):
    for path in (
        p for p in in_folders.folder.rglob("*") if p.suffix in (".png", ".pt") and "results" not in str(p)
    ):
        path.write_bytes(path.read_bytes())
    assert_reruns("", in_folders, "distances")


@pytest.mark.parametrize("how", ["replaced", "added", "removed"])
def test_one_image(in_folders, how):
    def change(folder: Path) -> None:
        images = sorted(folder.iterdir())
        if how == "replaced":
            images[0].write_bytes(images[1].read_bytes())
        elif how == "added":
            shutil.copy(images[0], folder / "new.png")
        else:
            images[0].unlink()

    change(in_folders.folder / "reference" / "digit1")
    assert_reruns("activations/reference/1|medoids/.*|distances/.*", in_folders, "distances")
    # The reference's other classes stay, and so do the test images; both changes together:
    change(in_folders.folder / "test" / "digit2")
    reruns = r"activations/(?!reference).*|activations/reference/1|images/.*|medoids/.*|distances/.*"
    assert_reruns(reruns, in_folders, "distances")


def test_a_new_class(in_folders):
    shutil.copytree(in_folders.folder / "reference/digit0", in_folders.folder / "reference/another")
    torch.save(
        classifiers.untrained("small_resnet", 4, seed=0).state_dict(), in_folders.folder / "weights.pt"
    )
    assert_reruns(".*", in_folders, "distances")


def test_weights(in_folders):
    weights = in_folders.folder / "weights.pt"
    torch.save(classifiers.untrained("small_resnet", 3, seed=1).state_dict(), weights)
    reruns = r"classifier\.pt|images/step|activations/.*|medoids/.*|distances/.*"
    assert_reruns(reruns, in_folders, "distances")


def test_what_was_planned_is_what_is_done(in_folders):
    images = sorted((in_folders.folder / "reference" / "digit1").iterdir())
    images[0].write_bytes(images[1].read_bytes())
    before = {path: path.stat().st_mtime_ns for path in in_folders.results.rglob("*.zip")}
    ran = in_folders.snakemake("distances")
    assert ran.returncode == 0, ran.stdout
    again = {p for p, made in before.items() if p.stat().st_mtime_ns != made}
    names = {str(p.relative_to(in_folders.results)).removesuffix(".zarr.zip") for p in again}
    assert names == {
        "activations/reference/1", "medoids/stem", "medoids/blocks.7",
        "distances/medoid-l2/original", "distances/medoid-l2/step",
    }  # fmt: skip
    shard = store.read(in_folders.results / "activations/reference/1.zarr.zip")
    np.testing.assert_array_equal(shard["blocks.7"][0], shard["blocks.7"][1])
    assert_reruns("", in_folders, "distances")


def test_what_is_wrong_with_images_is_said_before_any_job_in_one_line(in_folders):
    reference, test = (in_folders.folder / part / "digit1" for part in ("reference", "test"))
    copy = test / "copy.png"
    copy.write_bytes(min(reference.iterdir()).read_bytes())
    asked = in_folders.asked("distances", "--dry-run")
    assert asked.returncode
    assert "Traceback" not in asked.stdout
    assert f"1 pairs: digit1/copy.png = digit1/{min(reference.iterdir()).name}; remove them" in asked.stdout
    in_folders.settings["dataset"]["duplicates"] = "allow"
    assert in_folders.asked("distances", "--dry-run").returncode == 0
    copy.unlink()
    os.mkfifo(copy)
    asked = in_folders.asked("distances", "--dry-run")
    assert asked.returncode
    assert "Traceback" not in asked.stdout
    assert "digit1/copy.png: found a pipe, expected a regular file; remove it" in asked.stdout
