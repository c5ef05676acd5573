"""The workflow itself, run as a person would."""

import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from markupsafe import escape
from PIL import Image
from sklearn.metrics import roc_auc_score

import stages
from benchmarks.tables import tables as markdown
from conftest import ROOT, SMALL, Workflow
from detour import config, detectors, folds, store, tables, verdicts
from detour.detectors.versions import Versions

NOTHING = "Nothing to be done"


def aucs(workflow: Workflow) -> pd.Series:
    """AUC by detector and attack, every attack known."""
    table = workflow.table("metrics")
    table = table[(table["protocol"] == "known") & (table["measure"] == "auc")]
    table = table[(table["population"] == "all") & (table["originals"] == "all")]
    return table.set_index(["detector", "attack"])["value"]


def planned(workflow: Workflow, *options: str) -> dict[str, int]:
    """Number of jobs of each rule that a dry run would start."""
    ran = workflow.snakemake("--dry-run", *options)
    assert ran.returncode == 0, ran.stdout
    if NOTHING in ran.stdout:
        return {}
    table = ran.stdout.split("Job stats:")[1].split("total")[0]
    return {
        rule: int(count)
        for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)
        if rule != "all"
    }


def test_run_prints_the_table_and_where_the_report_is(finished):
    printed = finished.printed.read_text()
    for row in finished.table("summary").to_dict("records"):
        if row["population"] == "all":
            numbers = (f"{row[key]:.3f}" for key in ("value", "low", "high"))
            line = " +".join([row["detector"], row["protocol"], row["measure"], row["cell"], *numbers])
            assert re.search(line, printed)
    assert f"report: {finished.results / 'report.html'}" in finished.printed.read_text()


def test_each_job_says_what_it_does_and_keeps_a_log(finished):
    for message in (
        "attacks: perturb the test images by step",
        "detectors: train lstm on fold 1, seed 1",
        "adaptive: attack classifier and fisher by orthogonal on fold 0",
    ):
        assert message in finished.printed.read_text()
    log = (finished.results / "logs/activations/reference/0.log").read_text()
    assert re.search(r"reference shard 1 of 2: batches of 100: \d+ of \d+ in", log)


@pytest.mark.slow
def test_a_classifier_is_trained_in_the_run_where_that_is_asked_for(tmp_path):
    settings = SMALL | {"dataset": {"name": "digits", "test": 1497, "size": 8}}
    settings["classifier"] = {"model": "resnet18", "weights": "train", "training": {"epochs": 2}}
    workflow = Workflow(tmp_path, settings)
    ran = workflow.snakemake("results/small/classifier.pt")
    assert ran.returncode == 0, ran.stdout
    assert "intervals hold for the classifier that this run trains" in re.sub(r"\s+", " ", ran.stdout)
    assert "epoch 2 of 2" in (workflow.results / "logs/classifier.log").read_text()


def test_every_artefact_is_there_and_says_what_made_it(finished):
    stores = sorted(finished.results.rglob("*.zarr.zip"))
    images = activations = neighbours = 3
    references, medoids, gaussians, distances, adapted = 2, 3, 3 + 1, 2 * 3, 2
    # Of the run, and of each fold of each detector and seed.
    tables = 8 + 2 * 2 * (2 + 3)
    assert len(stores) == (
        images + activations + references + medoids + gaussians + distances + neighbours + adapted + tables
    )
    for path in stores:
        attributes = store.read(path).attrs
        assert {"settings", "code", "threads", "sources", "versions"} <= set(attributes)
        for name, digest in attributes["sources"].items():
            assert digest == store.digest(finished.results / name)
    assert not list(finished.results.rglob(".part-*"))
    table = finished.table("scores")
    assert not table.duplicated(list(table.columns.drop(["adversarial", "score"]))).any()
    known = table[table["protocol"] == "known"]
    # The test in three versions, and the originals of the validation, in each of two folds.
    found = known.groupby(["detector", "seed"], sort=False).size().to_dict()
    once = 2 * (3 * 25 + 25)
    assert found == {
        ("lstm", 0): once,
        ("lstm", 1): once,
        ("knn", 0): once,
        ("logistic", 0): once,
        ("fisher", 0): once,
    }


def test_stored_attacks_are_within_their_budget(finished):
    original = store.read(finished.results / "images/original.zarr.zip")["images"][:].astype(int)
    for attack in SMALL["attacks"]:
        found = store.read(finished.results / f"images/{attack['name']}.zarr.zip")["images"][:]
        assert 0 < np.abs(found - original).max() <= attack["eps"]


def test_jobs_use_the_library_beside_them_whatever_is_installed(tmp_path):
    workflow = Workflow(tmp_path, SMALL)
    module = workflow.folder / "workflow_scripts/detour/images.py"
    begin = "    images, classes = dataset.test_images()"
    module.write_text(module.read_text().replace(begin, f"    raise RuntimeError('of the copy')\n{begin}"))
    assert "RuntimeError: of the copy" in workflow.snakemake("results/small/images/original.zarr.zip").stdout


# Targets, with the last of what each makes of a new run.
PARTS = {
    "adversarials": {"classifier": 1, "image": 1, "attack": 2},
    "activations": {"activation": 3, "reference_activation": 2},
    "medoids": {"classifier": 1, "reference_activation": 2, "medoid": 3},
    "gaussians": {"reference_activation": 2, "gaussian": 3},
    "distances": {"medoid": 3, "distance": 6},
    "neighbours": {"reference_activation": 2, "neighbour": 3},
    "detectors": {"fold": 1, "train": 10, "evaluate": 10},
    "figures": {"summary": 1, "figure_tsne": 1, "figure_roc": 1},
}


def test_a_part_of_a_run_has_a_target(copied):
    assert planned(copied, *PARTS) == {}
    copied.settings["run"] = "another"
    for target, last in PARTS.items():
        jobs = planned(copied, target)
        assert jobs.items() >= last.items(), target
        assert "report" not in jobs, target


def test_every_protocol_and_an_adaptive_attack_are_in_the_report(finished):
    metrics, summary, adaptive = map(finished.table, ("metrics", "summary", "adaptive"))
    page = re.sub(r"\s+", " ", (finished.results / "report.html").read_text())
    for row in summary.itertuples():
        assert f"{row.value:.3f} <small>[{row.low:.3f}, {row.high:.3f}]" in page
    cells = metrics.query("measure == 'auc' and originals == 'all' and population == 'all'")
    found = {key: set(rows["case"] + ">" + rows["attack"]) for key, rows in cells.groupby("protocol")}
    assert found == {
        "known": {"all>all", "all>step", "all>noise"},
        "unknown": {"step>step", "noise>noise"},
        "transfer": {f"{case}>{attack}" for case in ("step", "noise") for attack in ("step", "noise")},
    }
    for row in cells[cells["protocol"] != "known"].itertuples():
        assert f"{row.value:.3f} <small>[{row.low:.3f}, {row.high:.3f}]" in page
    for caption in ("known", "unknown", "transfer", "populations", "operating", "adaptive"):
        written = (ROOT / f"report/{caption}.rst").read_text().strip()
        assert str(escape(re.sub(r"\s+", " ", written)))[:60] in page
    assert "± nan" not in page
    assert list(adaptive["detector"]) == ["lstm", "lstm", "fisher", "fisher"]
    printed = "\n".join(markdown(finished.results))
    for row in cells.query("protocol != 'transfer'").itertuples():
        assert f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" in printed
    # What is not moved is not misread.
    assert (adaptive.query("eps == 0")["succeeded"] == 0).all()


def test_every_method_gets_what_it_reads_and_every_seed_what_it_moves(copied):
    copied.settings |= {"run": "another", "seeds": [0, 1, 2], "adaptive": {"methods": []}}
    copied.settings["detectors"] = yaml.safe_load((ROOT / "presets/evaluation.yaml").read_text())["detectors"]
    for entry in copied.settings["detectors"]:
        # There are few images to be trained on.
        entry |= {"batch": 20, "k": [5]} if entry["method"] == "lid" else {}
    jobs = planned(copied)
    seeded = ("lstm", "mlp", "lid", "fisher_mlp")
    methods = [entry["method"] for entry in copied.settings["detectors"]]
    assert jobs["train"] == 2 * sum(3 if method in seeded else 1 for method in methods)
    assert jobs.items() >= {"neighbour": 3, "squeeze": 3, "gaussian": 3 + 1, "distance": 3 * 3}.items()


@pytest.mark.slow
def test_another_scheduler_reruns_nothing_and_gives_the_same_bytes(copied):
    copied.settings["dask"] = {"scheduler": "tcp://127.0.0.1:1", "workers": 3, "options": {"cores": 4}}
    assert planned(copied) == {}
    copied.settings["dask"] = {"scheduler": "processes"}
    assert planned(copied) == {}
    stages = ("medoids", "gaussians", "distances", "neighbours")
    before = {
        path: store.digest(path) for stage in stages for path in (copied.results / stage).rglob("*.zip")
    }
    assert len(before) == 3 + 4 + 6 + 3
    ran = copied.snakemake(*stages, "--forcerun", "medoid", "gaussian", "distance", "neighbour")
    assert ran.returncode == 0, ran.stdout
    assert {path: store.digest(path) for path in before} == before


@pytest.mark.slow
def test_a_scheduler_out_of_reach_is_told_by_the_job(copied):
    copied.settings["dask"] = {"scheduler": "tcp://127.0.0.1:1"}
    ran = copied.snakemake("results/small/medoids/stem.zarr.zip", "--forcerun", "medoid")
    assert ran.returncode != 0
    assert "dask.scheduler: " in ran.stdout
    assert "tcp://127.0.0.1:1" in ran.stdout


def test_a_wrong_configuration_stops_before_any_job(copied):
    copied.settings["attacks"][0]["epss"] = 1
    copied.settings["classifier"]["layers"] = ["layer5.0"]
    ran = copied.snakemake()
    assert ran.returncode != 0
    assert re.search(r"attacks\[0\]\.epss: found 'epss', allowed: .*eps.*; did you mean `eps`", ran.stdout)
    assert "Job" not in ran.stdout
    del copied.settings["attacks"][0]["epss"]
    assert "found 'layer5.0'" in copied.snakemake().stdout


def test_a_failed_job_shows_its_log_and_the_same_command_goes_on(copied):
    scores = copied.results / "detectors/lstm/seed-0/fold-0/scores.zarr.zip"
    command = (str(scores.relative_to(copied.folder)), "--forcerun", "train")
    before = store.digest(scores)
    broken = copied.results / "distances/medoid-l2/step.zarr.zip"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    ran = copied.snakemake(*command)
    assert ran.returncode != 0
    assert "step.zarr.zip: is damaged or no file of this workflow" in ran.stdout
    assert "delete it and run again" in ran.stdout
    broken.unlink()
    ran = copied.snakemake(*command)
    assert ran.returncode == 0, ran.stdout
    assert store.digest(scores) == before


def test_snakemake_s_own_report_has_the_captions(copied):
    ran = copied.snakemake("--report", "own.zip")
    assert ran.returncode == 0, ran.stdout
    with zipfile.ZipFile(copied.folder / "own.zip") as own:
        text = own.read("own/report.html").decode()
    figures = [path.stem for path in (copied.results / "figures").glob("*.svg")]
    for caption in ("workflow", "page", "summary", "metrics", "outcomes", *figures):
        assert (ROOT / f"report/{caption}.rst").read_text().strip()[:40] in text, caption
    # Under the run, which tells the runs of two modules apart.
    assert '"Tables": {"small": [' in text


def test_conda_environments_hold_what_is_locked():
    locked = set((ROOT / "locks/run.txt").read_text().split("\n"))
    locked = {line.split(" ;")[0] for line in locked}
    for path in (ROOT / "envs").glob("*.yaml"):
        pins = yaml.safe_load(path.read_text())["dependencies"][-1]["pip"]
        assert {re.sub(r"\[.*\]", "", pin) for pin in pins} <= locked, path.name


@pytest.mark.slow
def test_another_scheduler_by_the_generic_plugin(tmp_path):
    workflow = Workflow(tmp_path, SMALL)
    submit = tmp_path / "submit"
    submit.write_text('#!/bin/sh\necho "$1 $2 $3" >> asked\nsh "$4" > /dev/null 2>&1 &\necho $!\n')
    submit.chmod(0o755)
    asked = f"{submit} {{threads}} {{resources.mem_mb}} {{resources.gpu}}"
    ran = workflow.snakemake(
        "--executor", "cluster-generic", "--jobs", "2", "--default-resources", "gpu=0",
        "--cluster-generic-submit-cmd", asked, "--seconds-between-status-checks", "1",
        "results/small/images/original.zarr.zip",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert (tmp_path / "asked").read_text() == "2 2500 0\n"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is missing, by which the plugin copies files")
def test_results_in_a_storage_that_is_no_file_system(tmp_path):
    """By Snakemake's plugin for a folder; others, as for S3, differ in the name and the prefix alone."""
    settings = SMALL | {
        "attacks": SMALL["attacks"][:1],
        "protocols": ["known"],
        "detectors": [{"name": "knn", "method": "knn"}],
        "adaptive": {"methods": []},
    }
    workflow = Workflow(tmp_path / "here", settings)
    there = tmp_path / "there"
    storage = ("--default-storage-provider", "fs", "--default-storage-prefix", str(there),
               "--keep-storage-local-copies")  # fmt: skip
    ran = workflow.snakemake(*storage)
    assert ran.returncode == 0, ran.stdout
    assert {path.name for path in workflow.results.rglob("*") if path.is_file()} == {
        "layers.json", "contents.json", "started.json",
    }  # fmt: skip
    assert len(tables.read(there / "results/small/scores.zarr.zip")) == 2 * (2 * 25 + 25)
    assert "</html>" in (there / "results/small/report.html").read_text()
    assert NOTHING in workflow.snakemake("--dry-run", *storage).stdout


@pytest.mark.slow
def test_the_demo_finds_most_attacks(tmp_path):
    """The figures that the default run has to reach, by the functions of its stages, on two of its folds."""
    settings = config.load(yaml.safe_load((ROOT / "config.yaml").read_text()))
    run = stages.run(tmp_path, settings, trained=[0, 1])
    auc = {}
    for (name, fold), model in run.models.items():
        tested = Versions(run.stores, folds.sources(run.folds, fold, "test"))
        score = detectors.load(model).score(tested)
        auc.setdefault(name, []).append(roc_auc_score(tested.adversarial, score))
    lstm, knn = np.mean(auc["lstm"]), np.mean(auc["knn"])
    assert lstm >= 0.88
    assert lstm >= knn + 0.10
    outcomes = verdicts.outcome(verdicts.judged(run.images, run.stores.activations)).set_index("set")
    assert outcomes.loc["original", "accuracy"] >= 0.96
    assert outcomes.loc["iterative_target", "target_hits"] >= 0.8


@pytest.fixture(scope="session")
def photographs(data, tmp_path_factory) -> Path:
    """Tiny-imagenet-20 with 20 test and 30 reference images of a class, grey-scale ones among them."""
    folder = tmp_path_factory.mktemp("photographs")
    shutil.unpack_archive(data / "tiny-imagenet-20.tar", folder)
    for part, count in (("train", 30), ("val", 20)):
        for place in (folder / "tiny-imagenet-20" / part).iterdir():
            for path in sorted(place.iterdir())[count:]:
                path.unlink()
    modes = {Image.open(path).mode for path in folder.rglob("*.JPEG")}
    assert modes == {"RGB", "L"}
    return folder / "tiny-imagenet-20"


@pytest.mark.slow
def test_one_s_own_images_and_network(photographs, data, tmp_path):
    """The preset but for its paths, on a part of the images."""
    settings = yaml.safe_load((ROOT / "presets/image-folder.yaml").read_text())
    settings["dataset"] |= {
        "reference": str(photographs / "train"), "test": str(photographs / "val"), "per_class": 20,
    }  # fmt: skip
    settings["classifier"]["weights"] = str(data / "tiny-imagenet-20-resnet18.pt")
    settings["folds"] = {"count": 2}
    settings["detectors"][0]["epochs"] = 20
    settings["attacks"][-1]["steps"] = 5
    settings["attacks"][-1]["step"] = 4
    workflow = Workflow(tmp_path, settings)
    ran = workflow.snakemake()
    assert ran.returncode == 0, ran.stdout
    outcomes = workflow.table("outcomes").set_index("set")
    assert 0.5 < outcomes.loc["original", "accuracy"] < 0.8
    assert outcomes.loc["iterative_target", "target_hits"] > 0.7
    table = aucs(workflow)
    assert table["lstm", "fgsm_target"] > 0.7
    label = [
        store.read(workflow.results / f"activations/reference/{i}.zarr.zip")["label"][:] for i in range(4)
    ]
    np.testing.assert_array_equal(np.concatenate(label), np.repeat(range(20), 20))


# The least that InceptionV3 takes is 75.
SIDE = 96
WIDTHS = [192, 256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048]


@pytest.mark.slow
def test_the_paper_s_run_in_small(data, photographs, tmp_path):
    """The preset of the paper in everything but the weights, the number and size of images, steps and folds.

    NIPS 2017 images and 1,000 classes, whose pictures are of other things, as the weights are random.
    """
    pictures = sorted((photographs / "train").rglob("*.JPEG"))
    for i in range(1000):
        picture = pictures[i % len(pictures)]
        (tmp_path / f"reference/n{i:04}").mkdir(parents=True)
        place = tmp_path / f"reference/n{i:04}" / picture.name
        # Two classes of the same files are an error.
        if i < len(pictures):
            place.symlink_to(picture)
        else:
            place.write_bytes(picture.read_bytes() + b"again")
    (tmp_path / "reference" / "n0003" / "broken.JPEG").write_bytes(pictures[0].read_bytes()[:-300])
    listing = pd.read_csv(data / "nips2017-dev-100/images.csv", dtype={"ImageId": str}, keep_default_na=False)
    kept = listing.iloc[5:85:4]
    (tmp_path / "images").mkdir()
    for name in kept["ImageId"]:
        with Image.open(data / f"nips2017-dev-100/images/{name}.png") as picture:
            picture.resize((SIDE, SIDE)).save(tmp_path / f"images/{name}.png")
    settings = yaml.safe_load((ROOT / "presets/imagenet.yaml").read_text())
    settings["dataset"] |= {
        "reference": str(tmp_path / "reference"), "test": str(tmp_path / "images"), "missing": "skip",
        "labels": str(data / "nips2017-dev-100/images.csv"), "shards": 4, "workers": 1,
        "resize": SIDE, "crop": SIDE,
    }  # fmt: skip
    settings["classifier"]["weights"] = "untrained"
    settings["folds"]["count"] = 2
    settings["detectors"][0]["epochs"] = 5
    settings["attacks"][-1] |= {"steps": 2, "step": 8}
    workflow = Workflow(tmp_path, settings)
    ran = workflow.snakemake()
    assert ran.returncode == 0, ran.stdout
    assert "80 of 100 listed images are missing" in ran.stdout
    original = store.read(workflow.results / "images/original.zarr.zip")
    np.testing.assert_array_equal(original["label"][:], kept["TrueLabel"] - 1)
    np.testing.assert_array_equal(original["target"][:], kept["TargetClass"] - 1)
    assert [original.attrs["classes"][c] for c in (0, 42, 999)] == ["tench", "agama", "toilet tissue"]
    picture = np.asarray(Image.open(tmp_path / "images" / original.attrs["names"][7]).convert("RGB"))
    np.testing.assert_array_equal(original["images"][7], picture.transpose(2, 0, 1))
    page = (workflow.results / "report.html").read_text()
    assert "n0003/broken.JPEG: cannot be decoded" in page
    assert "no more" in page
    layers = store.read(workflow.results / "activations/original.zarr.zip").attrs["layers"]
    medoids = [store.read(workflow.results / f"medoids/{layer}.zarr.zip")["medoid"].shape for layer in layers]
    assert medoids == [(1000, width) for width in WIDTHS]
    for path in (workflow.results / "distances/medoid-l2").iterdir():
        distances = store.read(path)["distances"][:]
        assert distances.shape == (len(kept), 12, 1000)
        assert np.isfinite(distances).all()
    scores = workflow.table("scores")
    # Two detectors on two of four groups of sources, each in all versions, and on two groups of validation.
    versions = 1 + len(workflow.settings["attacks"])
    assert len(scores) == 2 * (versions + 1) * len(kept) / 2
    assert scores["score"].notna().all()


def test_a_run_without_adaptive_attacks_makes_none(copied):
    copied.settings |= {"run": "another", "adaptive": {"methods": []}}
    jobs = planned(copied)
    assert jobs["train"] == 10
    assert not [rule for rule in jobs if "adapt" in rule]
