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
from PIL import Image, ImageOps
from sklearn.datasets import load_digits

from conftest import Workflow
from detour import classifiers, store

# Patterns of what a run makes, without the ending of stores.
SCORED = (
    r"detectors/[^/]*/bundle|(scores|histories|metrics|summary)(\.csv)?"
    r"|figures/(intervals|histories|roc|transfer|explained).*|report\.html|leaderboard\.json"
)
ATTACKED = r"adaptive/.*|adaptive(\.csv)?|figures/adaptive.*"
TRAINED = rf"detectors/.*|{ATTACKED}|{SCORED}"
# What attacks and activations are behind, besides the detectors.
JUDGED = rf"(verdicts|outcomes)(\.csv)?|figures/.*|{TRAINED}"


def plan(workflow: Workflow, *options: str, **environment: str) -> tuple[set[str], set[str]]:
    """What the same command would make, and all that it is about."""
    asked = workflow.snakemake("--summary", *options, **environment)
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


# One of each kind: `test_plan.py` has the others, and that the plan is what Snakemake makes.
CHANGES = {
    "configuration": (
        lambda workflow: workflow.settings["attacks"][0].update(eps=24),
        rf"(images|activations|neighbours|distances/[^/]*)/step|{JUDGED}",
    ),
    "a new detector": (
        lambda workflow: workflow.settings["detectors"].append({"name": "new", "method": "knn", "k": [3]}),
        rf"detectors/new/.*|{SCORED}",
    ),
    "runs to be compared with": (lambda workflow: workflow.settings.update(compare=["another"]), ""),
    "one detector's code": (
        lambda workflow: edit(
            workflow, "workflow_scripts/detour/detectors/neighbours.py", "1 - (agree", "1.0 - (agree"
        ),
        rf"detectors/knn/.*|{SCORED}",
    ),
    "what every job begins with": (
        lambda workflow: edit(workflow, "workflow_scripts/job.py", "import json", "import json\n\nNEW = 1"),
        ".*",
    ),
    "template of the report": (
        lambda workflow: edit(workflow, "report/report.html", "<body", "<body class='new'"),
        r"report\.html",
    ),
    "caption": (lambda workflow: edit(workflow, "report/roc.rst", " ", "  "), r"report\.html"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change(copied, change):
    make, reruns = CHANGES[change]
    make(copied)
    assert_reruns(reruns, copied)


def test_a_library_s_upgrade(copied, tmp_path):
    upgraded = tmp_path / "upgraded" / "cleverhans-9.9.0.dist-info"
    upgraded.mkdir(parents=True)
    (upgraded / "METADATA").write_text("Metadata-Version: 2.1\nName: cleverhans\nVersion: 9.9.0\n")
    reruns = rf"(images|activations|neighbours|distances/[^/]*)/(step|noise)|{JUDGED}"
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
    another = in_folders.folder / "reference/another"
    shutil.copytree(in_folders.folder / "reference/digit0", another)
    for path in another.iterdir():
        ImageOps.invert(Image.open(path)).save(path)
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
    asked = in_folders.snakemake("distances", "--dry-run")
    assert asked.returncode
    assert "Traceback" not in asked.stdout
    assert f"1 pairs: digit1/copy.png = digit1/{min(reference.iterdir()).name}; remove them" in asked.stdout
    in_folders.settings["dataset"]["duplicates"] = "allow"
    assert in_folders.snakemake("distances", "--dry-run").returncode == 0
    copy.unlink()
    os.mkfifo(copy)
    asked = in_folders.snakemake("distances", "--dry-run")
    assert asked.returncode
    assert "Traceback" not in asked.stdout
    assert "digit1/copy.png: found a pipe, expected a regular file; remove it" in asked.stdout
