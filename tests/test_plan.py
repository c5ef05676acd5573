"""The plan: which job reads which, and what a change makes again; without Snakemake, which `test_reruns.py` asks."""

import copy
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import asked
from conftest import INTERPRETER, ROOT, SMALL
from detour import code, config
from detour.handover import SHARED, text
from detour.options import detectors
from detour.plan import Plan

pytestmark = pytest.mark.usefixtures("forked")

SCRIPTS = ROOT / "workflow_scripts"
LAYERS = SMALL["classifier"]["layers"]
# What a look at files would give; the digits are in none.
CONTENTS = {"test": "", "reference": [], "weights": "", "leaked": [], "copied": [], "attacks": {"files": ""}}

# Patterns of what a run makes, without the ending of stores.
SCORED = r"scores|detectors/.*/bundle|figures/(intervals|histories|roc|transfer|explained).*|report\.html|leaderboard\.json"
ATTACKED = r"adaptive(/.*)?|figures/adaptive.*"
TRAINED = rf"detectors/.*|{ATTACKED}|{SCORED}"
# What attacks and activations are behind, besides the detectors.
JUDGED = rf"verdicts|figures/.*|{TRAINED}"
REFERENCE = r"medoids/.*|gaussians/.*|distances/.*|neighbours/.*"

# Every method, and what else a run may have.
EVERY = SMALL | {
    "attacks": list(asked.attack_entries()),
    "controls": [{"name": "noisy", "method": "noise", "eps": 8}, {"name": "grey", "method": "grey"}],
    "detectors": [
        *({"name": method, "method": method, "batch": 20, "k": [5]} if method == "lid" else {"name": method, "method": method} for method in detectors.METHODS),
        {"name": "centroid", "method": "mlp", "representative": "centroid"},
        {"name": "moved", "method": "mahalanobis", "magnitude": 0.357},
        {"name": "some", "method": "fisher", "layers": LAYERS[:2]},
        {"name": "knowing", "method": "logistic", "controls": True},
    ],
    "adaptive": SMALL["adaptive"] | {"methods": ["pgd", "orthogonal"]},
}  # fmt: skip


def planned(settings: dict, contents: dict = CONTENTS) -> Plan:
    run = config.load(settings)
    layers = run.classifier.layers
    return Plan(config.among(run, layers), layers, contents)


def name(path: str) -> str:
    return (
        path.removeprefix("<run>/").removesuffix(".zarr.zip").removesuffix(".svg").removesuffix("/model.pt")
    )


def read(job) -> set[str]:
    """Paths of what a job reads."""
    values = job.reads.values()
    return {path for value in values for path in ([value] if isinstance(value, str) else value)}


def state(plan: Plan, scripts: Path = SCRIPTS) -> dict:
    """What the jobs are made of, by the first of what they write."""
    return {
        path: (
            job,
            code.digest(scripts / job.script, *job.methods),
            code.libraries(scripts / job.script, *job.methods),
        )
        for path, job in plan.jobs()
    }


def reruns(before: dict, after: dict) -> set[str]:
    """What is made again: what is new or is told, reads or runs something else, and what reads of that."""
    again: set[str] = set()
    # Of a job that writes several, others are read.
    of_job = {
        "history.zarr.zip": "model.pt", "outcomes": "verdicts", "metrics": "scores", "summary": "scores",
        "histories": "scores",
    }  # fmt: skip

    def made_with(path: str) -> str:
        for other, first in of_job.items():
            if path.endswith(f"/{other}") or path == f"<run>/{other}.zarr.zip":
                return path.replace(other, first)
        return path

    for path, made_of in after.items():
        if before.get(path) != made_of or again & {made_with(source) for source in read(made_of[0])}:
            again.add(path)
    return again


@pytest.mark.parametrize("settings", [SMALL, EVERY], ids=["small", "every method"])
def test_no_two_jobs_of_a_run_are_one_to_a_cache(settings):
    """Snakemake's cache takes jobs for equal that run and are told the same, and read of equal jobs."""
    jobs = [job for _, job in planned(settings).jobs()]
    assert len({(job.script, text(job.told), tuple(sorted(read(job)))) for job in jobs}) == len(jobs)


def test_what_a_run_is_called_is_told_to_no_job_whose_artefacts_runs_share():
    one, other = (planned(EVERY | {"run": run}).jobs() for run in ("one", "other"))
    told = {job.script for (_, job), (_, same) in zip(one, other, strict=True) if job != same}
    assert not told & set(SHARED)
    assert set(SHARED) <= {job.script for _, job in planned(EVERY).jobs()}


def assert_reruns(pattern: str, before: dict, after: dict) -> None:
    again = {name(path) for path in reruns(before, after)}
    assert again == {name(path) for path in after if re.fullmatch(pattern, name(path))}
    for part in re.split(r"\|(?![^(]*\))", pattern) if pattern else []:
        assert any(re.fullmatch(part, made) for made in again), f"nothing is like {part}"


@pytest.mark.parametrize("settings", [SMALL, EVERY], ids=["small", "every method"])
def test_what_a_job_reads_was_made_by_one_before_it(settings):
    made: set[str] = set()
    beside = {"verdicts": ["outcomes"], "scores": ["histories", "metrics", "summary"]}
    for path, job in planned(settings).jobs():
        assert read(job) <= made, path
        made |= {path, path.replace("model.pt", "history.zarr.zip")}
        made |= {f"<run>/{other}.zarr.zip" for other in beside.get(name(path), [])}
        assert (SCRIPTS / job.script).is_file()


@pytest.mark.parametrize("settings", [SMALL, EVERY], ids=["small", "every method"])
def test_every_artefact_is_read_or_is_what_was_asked_for(settings):
    jobs = dict(planned(settings).jobs())
    used = {path for job in jobs.values() for path in read(job)}
    unused = {name(path) for path in jobs if path not in used}
    assert {path for path in unused if not path.endswith("/bundle")} <= {
        "report.html",
        "leaderboard.json",
        "scores",
    }


def test_the_plan_is_what_snakemake_makes(finished):
    """Job by job: the first of what each writes is a file of the finished run, and none is left over."""
    planned_paths = {name(path) for path, _ in planned(SMALL).jobs()}
    there = {
        name(str(path.relative_to(finished.results)))
        for path in finished.results.rglob("*")
        if path.suffix in (".zip", ".pt", ".svg", ".html") or path.name in ("bundle", "leaderboard.json")
    }
    beside = {"outcomes", "metrics", "summary", "histories"}
    assert planned_paths == {path for path in there - beside if not path.endswith("/history")}


def test_a_plan_imports_nothing_heavy():
    """As every start of Snakemake makes one."""
    heavy = "torch", "pandas", "zarr", "dask", "sklearn", "scipy", "snakemake"
    script = f"import sys, detour.plan; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([INTERPRETER, "-c", script], text=True).strip() == "[]"


# What is changed in the configuration, and what has to be made again.
CONFIGURATION = {
    "eps of an attack": (
        lambda settings: settings["attacks"][0].update(eps=24),
        rf"(images|activations|neighbours|distances/[^/]*)/step|{JUDGED}",
    ),
    "a new attack": (
        lambda settings: settings["attacks"].append({"name": "new", "method": "fgsm", "eps": 8}),
        rf"(images|activations|neighbours|distances/[^/]*)/new|{JUDGED}",
    ),
    "a new control": (
        lambda settings: settings.update(controls=[{"name": "new", "method": "noise", "eps": 8}]),
        rf"(images|activations|neighbours|distances/[^/]*)/new|verdicts|figures/(?!adaptive).*|detectors/.*/scores|{SCORED}",
    ),
    "epochs of a detector": (
        lambda settings: settings["detectors"][0].update(epochs=4),
        rf"detectors/lstm/.*|adaptive/lstm/.*|adaptive|figures/adaptive|{SCORED}",
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
        rf"{ATTACKED}|detectors/(lstm|fisher)/bundle|figures/explained|report\.html|leaderboard\.json",
    ),
    "more neighbours": (
        lambda settings: settings["detectors"][1].update(k=[5, 101]),
        rf"neighbours/.*|detectors/knn/.*|{SCORED}",
    ),
    "a new detector": (
        lambda settings: settings["detectors"].append({"name": "new", "method": "knn", "k": [3]}),
        rf"detectors/new/.*|{SCORED}",
    ),
    # Differences are from the first, and trainings draw in the order of the sets.
    "detectors in another order": (lambda settings: settings["detectors"].reverse(), SCORED),
    "attacks in another order": (lambda settings: settings["attacks"].reverse(), JUDGED),
    "number of folds": (lambda settings: settings["folds"].update(count=3), rf"folds|{TRAINED}"),
    "a layer less": (
        lambda settings: settings["classifier"]["layers"].pop(1),
        rf"activations/.*|{REFERENCE}|{JUDGED}",
    ),
    "another classifier": (
        lambda settings: settings["classifier"].update(weights="train"),
        rf"classifier\.pt|images/(?!original).*|activations/.*|{REFERENCE}|{JUDGED}",
    ),
    "number of shards": (
        lambda settings: settings["dataset"].update(shards=3),
        rf"activations/reference/.*|{REFERENCE}|figures/(path|tsne)|{TRAINED}",
    ),
    "samples shown": (
        lambda settings: settings["figures"].update(samples=3),
        r"figures/samples|report\.html",
    ),
    "runs to be compared with": (lambda settings: settings.update(compare=["another"]), ""),
    "a number in another way": (lambda settings: settings["attacks"][0].update(step=16.0), ""),
    "what is the default, said": (lambda settings: settings.update(metrics={"draws": 2000}), ""),
    "what changes no byte": (lambda settings: settings.update(dask={"scheduler": "processes"}), ""),
}


@pytest.mark.parametrize("change", CONFIGURATION)
def test_configuration(change):
    make, pattern = CONFIGURATION[change]
    settings = copy.deepcopy(SMALL)
    make(settings)
    assert_reruns(pattern, state(planned(SMALL)), state(planned(settings)))


def test_what_is_compared_is_no_part_of_the_run():
    """It reads what the run makes, and the same of the others, in the order that they are named in."""
    plan = planned(SMALL | {"compare": ["b", "a"]})
    job = plan.compare()
    assert "compare.py" not in {other.script for _, other in plan.jobs()}
    made = {path for path, _ in plan.jobs()}
    for paths in job.reads.values():
        assert paths[0] in made
        assert paths[1:] == [paths[0].replace("<run>", f"results/{name}") for name in ("b", "a")]
    assert job.told != planned(SMALL | {"compare": ["a", "b"]}).compare().told
    with pytest.raises(ValueError, match=r"compare: found no run .* add them .* as `compare: \[another\]`"):
        planned(SMALL).compare()


def test_one_store_serves_all_that_squeeze_images():
    """It has what any of them asks for, and another wish of one makes it, and what reads it, again."""
    settings = copy.deepcopy(SMALL)
    for bits, median in ((4, 1), (5, 3), (5, 2)):
        named = {"name": f"b{bits}-m{median}", "method": "feature_squeezing", "bits": bits, "median": median}
        settings["detectors"].append(named)
    before = planned(settings)
    told = dict(before.jobs())["<run>/squeezed/step.zarr.zip"].told
    assert (told["bits"], told["median"]) == ([4, 5], [2, 3])
    settings["detectors"][-3]["bits"] = 3
    assert_reruns(rf"squeezed/.*|detectors/b.*|{SCORED}", state(before), state(planned(settings)))
    assert not [path for path, _ in planned(SMALL).jobs() if "squeezed" in path]


def test_input_preprocessing_reads_gaussians_that_nothing_else_asks_for():
    moved = {"name": "moved", "method": "mahalanobis", "magnitude": 1.0}
    settings = SMALL | {"detectors": [moved, moved | {"name": "far", "magnitude": 2.55}], "adaptive": {}}
    before, after = planned(settings), copy.deepcopy(settings)
    jobs = dict(before.jobs())
    assert {name(path) for path in jobs if "gaussians" in path} == {f"gaussians/{layer}" for layer in LAYERS}
    assert jobs["<run>/preprocessed/step.zarr.zip"].told["magnitudes"] == [1, 2.55]
    after["detectors"][1]["magnitude"] = 0
    assert_reruns(rf"preprocessed/.*|detectors/.*|{SCORED}", state(before), state(planned(after)))


NEW_ATTACK = """from typing import Literal

from detour.options.attacks import Bounded


class New(Bounded):
    \"\"\"New.\"\"\"

    method: Literal["new"]
"""
LIBRARY = "detour"
CODE = {
    "a family of attacks": (f"{LIBRARY}/attacks/gradients.py", "norm, targeted", "norm , targeted_ = 1, 1\n    norm, targeted",
                            rf"(images|activations|neighbours|distances/[^/]*)/step|{JUDGED}"),
    "its options": (f"{LIBRARY}/options/attacks/gradients.py", "class FGSM(Bounded, Targeted):", "NEW = 1\n\n\nclass FGSM(Bounded, Targeted):",
                    rf"(images|activations|neighbours|distances/[^/]*)/step|{JUDGED}"),
    "the stage of attacks": (f"{LIBRARY}/attacks/__init__.py", "SLACK = 1e-4", "SLACK = 1e-5",
                             rf"(images|activations|neighbours|distances/[^/]*)/(step|noise)|{JUDGED}"),
    "a new attack's module": (f"{LIBRARY}/attacks/new.py", "", "NEW = 1", ""),
    "a new attack's options": (f"{LIBRARY}/options/attacks/new.py", "", NEW_ATTACK, ""),
    "a new detector's module": (f"{LIBRARY}/detectors/new.py", "", "NEW = 1", ""),
    "a new detector's options": (f"{LIBRARY}/options/detectors/new.py", "", "NEW = 1", ""),
    "a new dataset's module": (f"{LIBRARY}/datasets/new.py", "", "NEW = 1", ""),
    "a dataset that is not used": (f"{LIBRARY}/datasets/photographs.py", "decodes: ClassVar = True", "decodes: ClassVar = 1", ""),
    "one detector": (f"{LIBRARY}/detectors/neighbours.py", "1 - (agree", "1.0 - (agree", rf"detectors/knn/.*|{SCORED}"),
    "one detector's options": (f"{LIBRARY}/options/detectors/neighbours.py", "return max(self.k)", "return max(self.k) + 0", rf"detectors/knn/.*|{SCORED}"),
    "medoids": (f"{LIBRARY}/medoids.py", "CACHED = 2**18", "CACHED = 2**17",
                rf"medoids/.*|gaussians/.*|distances/.*|figures/path|detectors/(?!knn).*|{ATTACKED}|{SCORED}"),
    "runs side by side": (f"{LIBRARY}/compared.py", "DRAWS = 2000", "DRAWS = 3000", ""),
    "figures": (f"{LIBRARY}/figures.py", '"#0077BB"', '"#0077BC"', r"figures/.*|report\.html"),
    "one script": ("fold.py", "from job import begin", "from job import begin\n\nNEW = 1", rf"folds|{TRAINED}"),
    "the plan": (f"{LIBRARY}/plan.py", 'JOINT = "joint"', 'JOINT = "together"', ""),
    "a comment": (f"{LIBRARY}/store.py", '"""Stores', '"""What stores', ""),
}  # fmt: skip


@pytest.mark.parametrize("change", CODE)
def test_code(tmp_path, change):
    file, old, new, pattern = CODE[change]
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    path, plan = tmp_path / "scripts" / file, planned(SMALL)
    text = path.read_text() if old else ""
    assert old in text
    path.write_text(text.replace(old, new, 1) if old else new)
    assert_reruns(pattern, state(plan), state(plan, tmp_path / "scripts"))


@pytest.mark.parametrize(
    ("library", "release", "pattern"),
    [
        ("cleverhans", "9.9.0", rf"(images|activations|neighbours|distances/[^/]*)/(step|noise)|{JUDGED}"),
        ("torch", "9.9.0", ".*"),
        # Of functions that import where they need it, too: of those that read the digits, and deal the folds.
        ("scikit-learn", "9.9.0", r"(?!classifier\.pt).*"),
        ("scipy", "9.9.0", rf"medoids/.*|gaussians/.*|distances/.*|figures/.*|detectors/(?!knn).*|{ATTACKED}|{SCORED}"),
        ("torch", "patch", ""),
        ("zarr", "9.9.0", ""),
        ("dask", "9.9.0", ""),
        ("matplotlib", "9.9.0", ""),
    ],
)  # fmt: skip
def test_library_upgrades(monkeypatch, library, release, pattern):
    # What another test said of a release is not to be remembered.
    code._release.cache_clear()
    before, version = state(planned(SMALL)), code.version

    def upgraded(name: str) -> str:
        if name != library:
            return version(name)
        return ".".join([*version(name).split(".")[:2], "99"]) if release == "patch" else release

    monkeypatch.setattr(code, "version", upgraded)
    code._release.cache_clear()
    try:
        assert_reruns(pattern, before, state(planned(SMALL)))
    finally:
        code._release.cache_clear()
