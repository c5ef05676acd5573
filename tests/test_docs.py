"""Every command and snippet of the documentation, run; and what the pages say of each other."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from conftest import ROOT, SMALL, python
from detour import classifiers

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "profiles/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n)+")
# In the text, a command is known by its first word.
INLINE = re.compile(r"`((?:\.venv/bin/|make |snakemake |python |dask |pre-commit )[^`]+)`")
HEADED = re.compile(r"^#.*?(snakemake --cores .*)$", re.MULTILINE)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and text of each block; an indented one is of the shell."""
    yield from FENCED.findall(text)
    for block in INDENTED.findall(FENCED.sub("", text)):
        yield "sh", re.sub("^ {4}", "", block, flags=re.MULTILINE)


def commands() -> dict[str, list[str]]:
    """Every command, with the pages that it is on."""
    seen: dict[str, list[str]] = {}
    for page in PAGES:
        text = page.read_text()
        shell = "\n".join(block for language, block in blocks(text) if language == "sh")
        inline = [" ".join(command.split()) for command in INLINE.findall(FENCED.sub("", text))]
        for line in [*shell.replace("\\\n", "").splitlines(), *inline]:
            if line.strip():
                seen.setdefault(" ".join(line.split()), []).append(page.name)
    for preset in PRESETS:
        for command in HEADED.findall(preset.read_text()):
            seen.setdefault(f".venv/bin/{command}", []).append(preset.name)
    return seen


# Those that are files of a user's begin with their names: test_outside.py, test_datasets.py and test_networks.py run
# them.
SNIPPETS = [
    pytest.param(block, id=page.name)
    for page in PAGES
    for language, block in blocks(page.read_text())
    if language == "python" and not re.match(r"# \w+\.py\b", block)
]

# Dry runs, with numbers of jobs that they plan. In the copy that they run in, config.yaml is the small run, which is
# finished, unless a command names it; my.yaml is one of another name, of which nothing is there; and stand-ins are
# where presets look for data. What my.yaml is compared with is the finished one.
MINE = {"classifier": 1, "attack": 2, "train": 10, "report": 1}
EVERYTHING = {"attack": 2, "train": 44, "adapt": 8, "report": 1}
PLANS = {
    ".venv/bin/snakemake --cores all --configfile my.yaml": MINE,
    ".venv/bin/snakemake --cores all --configfile my.yaml presets/evaluation.yaml": EVERYTHING,
    ".venv/bin/snakemake --cores all --configfile my.yaml presets/eps-8.yaml": {"attack": 9, "report": 1},
    ".venv/bin/snakemake adversarials --cores all --configfile my.yaml": {"attack": 2, "report": 0},
    ".venv/bin/snakemake --cores all --configfile my.yaml presets/evaluation.yaml presets/three-seeds.yaml": {
        "train": 12, "adapt": 0,
    },
    ".venv/bin/snakemake --cores all --config seed=1 run=digits-1": MINE,
    ".venv/bin/snakemake --cores all adversarials": {},
    ".venv/bin/snakemake layers --cores 1 --configfile my.yaml": {"layers": 1, "report": 0},
    ".venv/bin/snakemake figures --cores all --configfile my.yaml": {"figure_roc": 1, "report": 0},
    ".venv/bin/snakemake compare --cores all --configfile my.yaml": {"leaderboard": 1, "compare": 1, "report": 0},
    ".venv/bin/snakemake pngs --cores all --configfile my.yaml": {"png": 3, "attack": 2, "report": 0},
    ".venv/bin/snakemake --cores all --configfile my.yaml --cache": MINE,
    ".venv/bin/snakemake --cores all --dry-run": {},
    ".venv/bin/snakemake --cores all --dry-run --rerun-triggers mtime input": {},
    ".venv/bin/snakemake --cores all --resources gpu=1": {},
    ".venv/bin/snakemake --cores 2 --configfile config.yaml presets/evaluation.yaml": {"train": 75, "adapt": 8},
    ".venv/bin/snakemake --cores all --configfile config.yaml presets/train-in-run.yaml": {"classifier": 1, "train": 10},
    ".venv/bin/snakemake --cores all --configfile presets/controls.yaml": {"attack": 3, "control": 14, "train": 20},
    ".venv/bin/snakemake --cores all --configfile presets/image-folder.yaml": {"attack": 4, "train": 10},
    ".venv/bin/snakemake --cores all --configfile presets/image-folder.yaml presets/evaluation.yaml": {"train": 75},
    ".venv/bin/snakemake --cores 2 --configfile presets/image-folder.yaml presets/evaluation.yaml": {"train": 75},
    ".venv/bin/snakemake --cores all --configfile presets/image-folder.yaml presets/evaluation.yaml"
    " presets/three-seeds.yaml": {"train": 30},
    ".venv/bin/snakemake --cores 2 --configfile presets/image-folder.yaml presets/evaluation.yaml"
    " presets/three-seeds.yaml": {"train": 30},
    ".venv/bin/snakemake --cores all --configfile presets/image-folder.yaml presets/damage.yaml": {
        "attack": 3, "control": 37, "train": 20, "adapt": 2,
    },
    ".venv/bin/snakemake --cores all --configfile presets/image-folder.yaml presets/damage.yaml presets/weak.yaml": {
        "attack": 6, "control": 37, "train": 20, "adapt": 0,
    },
    ".venv/bin/snakemake --cores all --configfile presets/image-folder.yaml presets/unseen.yaml": {
        "attack": 7, "control": 10, "train": 15,
    },
    **{
        f".venv/bin/snakemake --cores all --configfile presets/image-folder.yaml presets/eps-{eps}.yaml": {"attack": 9}
        for eps in (2, 4, 8, 16)
    },
    ".venv/bin/snakemake --cores all --configfile presets/imagenet.yaml": {"reference_activation": 100, "medoid": 12},
    ".venv/bin/snakemake --cores all --resources gpu=1 --configfile presets/imagenet.yaml": {"attack": 4},
    # Only planned: test_slurm.py runs the first, test_workflow.py the second with a shell for a scheduler.
    ".venv/bin/snakemake --profile profiles/slurm --configfile my.yaml": MINE,
    ".venv/bin/snakemake --executor cluster-generic --jobs 100 --retries 2 --latency-wait 60 --configfile my.yaml"
    ' --cluster-generic-submit-cmd "qsub -l select=1:ncpus={threads}:mem={resources.mem_mb}mb:ngpus={resources.gpu}"':
        MINE,
}  # fmt: skip

# Run as they stand, with words of what they print.
RUNS = {
    ".venv/bin/snakemake --unlock --cores all --configfile my.yaml": "Unlocked working directory.",
    ".venv/bin/snakemake --report own.zip": "Report created.",
    "python -m benchmarks.tables results/RUN": "| lstm ",
}

# `make` only prints what it would do: these install 6 GB, or take half an hour, or run this module.
MAKES = {
    "make demo": "snakemake --cores all",
    "make demo CUDA=": "grep -vE '^(cuda|nvidia|triton)' locks/run.txt",
    "make lint": "mypy",
    "make test": "pytest",
    "make test-all": "pytest",
    "make cluster": "locks/cluster.txt",
    "make bench": "python -m benchmarks",
    "make table": "documented.table",
    "make schema": "documented.schema",
    "make rulegraph": "docs/rulegraph.svg",
    "make lock": "uv pip compile",
}

# Their options are looked up in what `--help` prints: they run until somebody stops them.
SERVERS = {
    "dask scheduler --port 8786": ["--port"],
    "dask worker tcp://host:8786 --nworkers 8 --nthreads 1": ["--nworkers", "--nthreads"],
}

# Not run here, and why.
ELSEWHERE = {
    ".venv/bin/snakemake --cores all --default-storage-provider s3 --default-storage-prefix s3://bucket/project":
        "needs the plugin of S3 and a bucket; test_workflow.py runs the plugin of a folder",
    ".venv/bin/snakemake --cores all --configfile presets/cifar10.yaml":
        "needs CIFAR-10, whose files torchvision compares with theirs; test_datasets.py runs it on other images",
    "python -m benchmarks.reproducibility": "runs the default workflow once for each kind of processor, an hour",
    ".venv/bin/snakemake --cores all --configfile presets/imagenette.yaml":
        "needs two packages that no lock has; test_networks.py runs it in small where they are",
    ".venv/bin/snakemake --cores all --configfile presets/imagenette.yaml presets/damage.yaml":
        "needs the same packages; test_config.py loads both",
    ".venv/bin/snakemake --cores all --configfile presets/imagenette.yaml presets/damage.yaml presets/weak.yaml":
        "needs the same packages; test_config.py loads all three",
    "python -m benchmarks.lite0 DATA OUT":
        "needs two packages that no lock has, images and an hour",
    "python -m benchmarks.scaling --out FILE --epochs 30 OUT/imagenet-1000":
        "test_benchmarks.py runs it on the small run",
    ".venv/bin/detour score results/digits/detectors/lstm/bundle PHOTOS --fpr 0.05":
        "test_bundle.py runs it on images of the run",
    ".venv/bin/python -m benchmarks.unseen data/aside results/tiny-resnet18/detectors/lstm/bundle results/tiny-resnet18/detectors/fisher/bundle":
        "needs images that are no part of the repository; test_benchmarks.py runs it on the small run",
    ".venv/bin/snakemake --cores all --configfile presets/image-folder.yaml resnet18.yaml":
        "needs images that are no part of the repository; the preset is planned above",
    ".venv/bin/snakemake --cores all --configfile presets/image-folder.yaml shufflenet.yaml":
        "needs images that are no part of the repository; the preset is planned above",
    ".venv/bin/snakemake pngs --cores all --configfile presets/image-folder.yaml presets/unseen.yaml resnet.yaml":
        "needs images that are no part of the repository; the preset is planned above",
    ".venv/bin/snakemake --cores all --configfile presets/image-folder.yaml presets/unseen.yaml vit.yaml":
        "needs images that are no part of the repository; the preset is planned above",
    ".venv/bin/detour compare tiny-resnet18 tiny-shufflenet --out both": "test_compared.py runs it on small runs",
    ".venv/bin/detour compare digits digits-1 --out comparison": "test_compared.py runs it on small runs",
    ".venv/bin/detour init PHOTOS": "test_initial.py runs it",
    ".venv/bin/detour init PHOTOS --model resnet18 --out my.yaml": "test_initial.py runs it",
    ".venv/bin/detour layers my.yaml": "test_initial.py runs it",
    ".venv/bin/detour info results/digits/detectors/lstm/bundle": "test_bundle.py runs it",
    ".venv/bin/detour explain results/digits/detectors/lstm/bundle PHOTO --label 3": "test_explanation.py runs it",
    "snakemake --lint": "`make lint` runs it",
    "snakemake compare": "the name of a target; docs/evaluation.md has the whole command, which is planned",
    "snakemake pngs": "the name of a target; docs/methods.md has the whole command, which is planned",
    ".venv/bin/pip install --no-deps -c locks/test.txt torchattacks foolbox eagerpy adversarial-robustness-toolbox six"
    " tqdm": "needs an index; `make test` installs these at the same versions, and test_outside.py runs their attacks",
    "snakemake layers": "the name of a target; docs/networks.md has the whole command, which is planned",
    "pre-commit install": "needs pre-commit, which no lock has; the hooks are compared with `make lint` below",
}  # fmt: skip

FIRST = [command for command, pages in commands().items() if "README.md" in pages]


def test_every_command_is_known_to_a_test():
    known = [*PLANS, *RUNS, *MAKES, *SERVERS, *ELSEWHERE]
    assert len(known) == len(set(known))
    found = commands()
    assert {command: pages for command, pages in found.items() if command not in known} == {}, "enter it here"
    assert [command for command in known if command not in found] == [], "it is in no page any more"


def test_every_block_is_of_a_language_that_is_checked():
    for page in PAGES:
        for language, block in blocks(page.read_text()):
            assert language in ("sh", "python", "yaml", "text", "bibtex"), f"{page.name}: {block}"
            if language == "yaml":
                assert isinstance(yaml.safe_load(block), dict), f"{page.name}: {block}"


@pytest.fixture(scope="module")
def reader(finished, tmp_path_factory) -> Path:
    """The folder of a reader, who has a finished run and a configuration of another."""
    folder = tmp_path_factory.mktemp("reader") / "copy"
    shutil.copytree(finished.folder, folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(SMALL))
    mine = SMALL | {"run": "mine", "dataset": SMALL["dataset"] | {"test": 300}, "compare": [SMALL["run"]]}
    (folder / "my.yaml").write_text(yaml.safe_dump(mine))
    shutil.copy(ROOT / "config.yaml", folder / "default.yaml")
    return folder


@pytest.fixture(scope="module")
def with_data(reader) -> Path:
    """The same with stand-ins of one colour, and of random weights, where presets look for data."""
    shades = iter(range(0, 2**24, 251))

    def picture() -> Image.Image:
        """One like no other: the same file as reference and as test is an error."""
        return Image.new("RGB", (64, 64), tuple(next(shades).to_bytes(3)))

    def folder(path: Path, classes: int, images: int, suffix: str) -> None:
        for c in range(classes):
            (path / f"class{c:03}").mkdir(parents=True)
            for i in range(images):
                picture().save(path / f"class{c:03}" / f"{i}.{suffix}", quality=100)

    # As many reference images as neighbours are asked for.
    folder(reader / "data/tiny-imagenet-20/train", 20, 5, "JPEG")
    folder(reader / "data/tiny-imagenet-20/val", 20, 10, "JPEG")
    network = classifiers.untrained("resnet18", 20, seed=0)
    torch.save(network.state_dict(), reader / "data/tiny-imagenet-20-resnet18.pt")
    folder(reader / "data/ILSVRC2012/train", 1000, 1, "JPEG")
    (reader / "data/nips2017/images").mkdir(parents=True)
    names = [f"image{i}" for i in range(20)]
    for name in names:
        picture().save(reader / f"data/nips2017/images/{name}.png")
    table = pd.DataFrame({"ImageId": names, "TrueLabel": range(1, 21), "TargetClass": range(21, 41)})
    table.to_csv(reader / "data/nips2017/images.csv", index=False)
    return reader


def ran(words: list[str], folder: Path) -> str:
    """Run a command of the documentation in a folder; what it prints."""
    program, *options = words
    module = {"python": [], ".venv/bin/snakemake": ["-m", "snakemake"], "dask": ["-m", "dask"]}[program]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [python(), *module, *options], cwd=folder, env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}"
    return done.stdout


@pytest.mark.parametrize(
    "command", [c if c in FIRST else pytest.param(c, marks=pytest.mark.slow) for c in PLANS]
)
def test_a_command_of_snakemake_plans_what_the_page_says(command, request, tmp_path, monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(tmp_path))
    folder = request.getfixturevalue(
        "with_data" if ("image-folder" in command or "imagenet" in command) else "reader"
    )
    words = shlex.split(command.replace("--configfile config.yaml", "--configfile default.yaml"))
    printed = ran([*words, "--dry-run"], folder)
    table = printed.split("Job stats:")[1].split("total")[0] if "Job stats:" in printed else ""
    planned = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
    if PLANS[command]:
        assert {rule: planned.get(rule, 0) for rule in PLANS[command]} == PLANS[command]
    else:
        assert "Nothing to be done" in printed


@pytest.mark.slow
@pytest.mark.parametrize("command", RUNS)
def test_a_command_runs(command, reader):
    assert RUNS[command] in ran(shlex.split(command.replace("RUN", SMALL["run"])), reader)


@pytest.mark.parametrize("command", MAKES)
def test_a_target_of_make_does_what_the_page_says(command, tmp_path):
    for name in ("Makefile", "pyproject.toml", "locks"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    done = subprocess.run(
        [*shlex.split(command), "--dry-run"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert MAKES[command] in done.stdout


@pytest.mark.parametrize("command", SERVERS)
def test_a_server_has_the_options_that_the_page_names(command):
    program, server = shlex.split(command)[:2]
    printed = ran([program, server, "--help"], ROOT)
    assert [option for option in SERVERS[command] if option not in printed] == []


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs_in_the_environment_of_the_demo(snippet, reader):
    assert "results/digits" in snippet
    assert ran(["python", "-c", snippet.replace("results/digits", f"results/{SMALL['run']}")], reader)
    locked = {line.split("==")[0] for line in (ROOT / "locks/run.txt").read_text().splitlines()}
    imported = {name.split(".")[0] for name in re.findall(r"^(?:import|from) (\S+)", snippet, re.MULTILINE)}
    assert imported <= locked | {"detour"} | sys.stdlib_module_names


def test_what_snakemake_s_report_imports_is_installed_by_the_demo():
    assert any(line.startswith("pygments==") for line in (ROOT / "locks/run.txt").read_text().splitlines())


def heading_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text())):
        if not link.startswith(("https://", "http://")):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in heading_anchors(target), f"{page.name}: {link}"


def test_the_readme_is_read_at_one_sitting():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_version_is_the_same_wherever_it_is_written():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.findall(r"^## \[(\d\S*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert (citation["version"], citation["date-released"]) == released[0]
    assert version == citation["version"]


def test_pre_commit_runs_what_make_lint_runs():
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe
    linted = [line.replace("$(BIN)", ".venv/bin") for line in recipe[1].replace("\t", "").splitlines()]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == linted
