"""Bundles: what they hold, what the detector in one says of images, and what is refused."""

import dataclasses
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import detour
import stages
from conftest import SMALL
from detour import (
    bundle,
    config,
    datasets,
    detectors,
    distances,
    metrics,
    preprocessed,
    squeezed,
    store,
    tables,
    verdicts,
)
from detour.bundle import Bundle
from detour.command import app
from detour.detector import Detector, Seen, _leaves
from detour.options.detectors import METHODS
from detour.pixels import fitted
from detour.plan import Plan
from detour.store import Made
from test_plan import CONTENTS

FOLDS = 2
BY_ANGLE = "centroid"
# Which look at the images again.
SQUEEZING, MOVING = "feature_squeezing", "moving"
ENTRIES = [
    *(
        {"name": method, "method": method} | ({"batch": 20, "k": [5, 10]} if method == "lid" else {})
        | {key: value for key, value in {"epochs": 2, "c": [1]}.items() if key in options.model_fields}
        for method, options in METHODS.items()
    ),
    {"name": BY_ANGLE, "method": "logistic", "representative": "centroid", "metric": "cosine"},
    {"name": MOVING, "method": "mahalanobis", "magnitude": 1},
    {"name": "votes", "method": "knn", "layer": "best", "votes": "distance"},
]  # fmt: skip
NAMES = [entry["name"] for entry in ENTRIES]
SETTINGS = {
    "run": "bundled",
    "dataset": {"name": "digits", "test": 100},
    "classifier": SMALL["classifier"],
    "attacks": [{"name": "step", "method": "fgsm", "eps": 48}],
    "folds": {"count": FOLDS},
    "metrics": {"draws": 100},
    "detectors": ENTRIES,
}
MADE = Made({}, "")
RUN = f"results/{SETTINGS['run']}"


@pytest.fixture(scope="session")
def bundled(shared) -> Path:
    """A folder with a bundle for each detector under its name, the images, and the scores of the folds."""
    return shared("bundled", _make) / RUN


def _make(folder: Path) -> None:
    asked = config.load(SETTINGS)
    # Where artefacts of a run are told apart by their folders.
    folder = folder / RUN
    folder.mkdir(parents=True)
    done = stages.run(folder, asked.model_copy(update={"detectors": []}), [])
    run = config.among(asked, done.layers)
    plan = Plan(run, done.layers, CONTENTS)
    judged = {"verdicts": folder / "verdicts.zarr.zip", "outcomes": folder / "outcomes.zarr.zip"}
    verdicts.judge(done.images, done.stores.activations, **judged, made=MADE)
    of_gaussians = list(done.stores.gaussians.values())
    by_angle = {name: folder / "angles" / path.name for name, path in done.stores.distances.items()}
    for name, path in by_angle.items():
        distances.measure(
            done.stores.activations[name], of_gaussians, path,
            representative="centroid", metric="cosine", made=MADE,
        )  # fmt: skip
    again = {
        stage: {name: folder / stage / path.name for name, path in done.images.items()}
        for stage in ("squeezed", "preprocessed")
    }
    on = {"batch_size": run.batch_size, "device": "cpu", "made": MADE}
    for name, images in done.images.items():
        by = {key: plan.squeeze(name).told[key] for key in ("bits", "median")}
        squeezed.extract(done.classifier, images, again["squeezed"][name], **by, **on)
        by = {key: plan.preprocess(name).told[key] for key in ("layers", "magnitudes")}
        preprocessed.extract(done.classifier, images, of_gaussians, again["preprocessed"][name], **by, **on)
    whole = dataclasses.replace(done.stores, **again)
    made = {}
    for entry in run.detectors:
        stores = dataclasses.replace(whole, distances=by_angle) if entry.name == BY_ANGLE else whole
        for fold in range(FOLDS):
            place = folder / "trained" / entry.name / f"fold-{fold}"
            place.mkdir(parents=True)
            model, history, scores = (place / n for n in ("model.pt", "history.zarr.zip", "scores.zarr.zip"))
            about = {"protocols": ["known"], "seed": 0, "fold": fold, "made": MADE}
            detectors.train(stores, done.folds, model, history, options=entry, **about)
            detectors.evaluate(stores, done.folds, model, scores, name=entry.name, **about)
            made[entry.name, fold] = model, history, scores
    _, histories, scored = zip(*made.values(), strict=True)
    tables_of = {n: folder / f"{n}.zarr.zip" for n in ("scores", "histories", "metrics", "summary")}
    metrics.summarise(
        scored, histories, judged["verdicts"], **tables_of, made=MADE, seed=0, **run.metrics.model_dump()
    )
    for entry in run.detectors:
        job = plan.bundle(entry.name)
        models, _, scored = zip(*(made[entry.name, fold] for fold in range(FOLDS)), strict=True)
        bundle.write(
            folder / "bundles" / entry.name, classifier=done.classifier, images=done.images["original"],
            medoids=done.medoids, models=models, scores=scored, summary=tables_of["summary"],
            gaussians=of_gaussians if "gaussians" in job.reads else (), references=[done.reference],
            activations=done.stores.activations["original"], made=MADE,
            **{stage: [paths["original"]] for stage, paths in again.items() if stage in job.reads},
            **job.told | {"dataset": datasets.dataset(job.told["dataset"])},
        )  # fmt: skip
    (folder / "done").write_bytes(
        pickle.dumps({n: store.read(p)["images"][:] for n, p in done.images.items()})
    )


@pytest.fixture(scope="session")
def pixels(bundled) -> dict[str, np.ndarray]:
    """The run's test images, by set."""
    return pickle.loads((bundled / "done").read_bytes())


@pytest.fixture(scope="session")
def lstm(bundled) -> Detector:
    return Detector.load(bundled / "bundles/lstm", device="cpu")


@pytest.fixture
def copied(bundled, tmp_path) -> Path:
    return shutil.copytree(bundled / "bundles/lstm", tmp_path / "bundle")


@pytest.mark.parametrize("name", NAMES)
def test_the_detectors_of_the_folds_score_as_in_the_workflow(bundled, pixels, name):
    detector = detour.Detector.load(bundled / "bundles" / name, device="cpu")
    seen = {s: detector.seen(images).scores for s, images in pixels.items()}
    for fold in range(FOLDS):
        table = tables.read(bundled / "trained" / name / f"fold-{fold}" / "scores.zarr.zip")
        assert set(table["set"]) == set(pixels)
        found = [seen[row.set][row.source, fold] for row in table.itertuples()]
        np.testing.assert_allclose(found, table["score"], rtol=1e-5, atol=1e-5)
        assert table["score"].nunique() > 2


def test_a_p_value_counts_the_genuine_images_that_score_as_high(bundled, lstm, pixels, rng):
    genuine = []
    for fold in range(FOLDS):
        table = tables.read(bundled / f"trained/lstm/fold-{fold}/scores.zarr.zip")
        genuine.append(table[(table["role"] == "test") & (table["set"] == "original")]["score"].to_numpy())
    n = sum(map(len, genuine))
    assert n == len(pixels["original"]) // 2
    # Of some, the very scores of the calibration: a tie counts.
    scores = np.concatenate(
        [rng.normal(size=(20, FOLDS)) * 3, np.stack([part[:5] for part in genuine], axis=1)]
    )
    expected = [
        (1 + sum(int(s >= row[fold]) for fold, part in enumerate(genuine) for s in part)) / (n + 1)
        for row in scores
    ]
    assert lstm.p_values(scores).tolist() == expected
    assert lstm.p_values(np.full((1, FOLDS), 1e9)) == 1 / (n + 1)
    assert lstm.p_values(np.full((1, FOLDS), -1e9)) == 1


def test_of_genuine_images_no_more_are_flagged_than_was_asked_for(lstm, rng, monkeypatch):
    """Of images alike, whatever the folds' detectors are: here each adds noise and a scale of its own."""
    alphas, draws, n = [0.02, 0.05, 0.1, 0.3], 400, 120
    flagged = []
    for _ in range(draws):
        scales, shifts = np.exp(rng.normal(size=FOLDS)), rng.normal(size=FOLDS) * 5
        seen = rng.normal(size=n)[:, None] + rng.normal(size=(n, FOLDS)) / 2
        seen = seen * scales + shifts
        folds = [(None, np.sort(seen[fold::FOLDS, fold])) for fold in range(FOLDS)]
        monkeypatch.setattr(lstm, "_folds", folds)
        monkeypatch.setattr(lstm, "_count", n)
        new = (rng.normal(size=20)[:, None] + rng.normal(size=(20, FOLDS)) / 2) * scales + shifts
        flagged.append([(lstm.p_values(new) <= alpha).mean() for alpha in alphas])
    rates, error = np.mean(flagged, axis=0), np.std(flagged, axis=0) / draws**0.5
    assert (rates <= alphas + 3 * error).all()
    # Nor far fewer, which would be of no use.
    assert (rates >= np.array(alphas) / 2).all()


def test_a_table_has_a_row_for_every_image_whatever_it_comes_as(lstm, pixels, tmp_path):
    images = pixels["step"][:5]
    folder = tmp_path / "images"
    folder.mkdir()
    pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in images]
    for i, picture in enumerate(pictures):
        picture.save(folder / f"{i}.png")
    table = lstm(images, fpr=0.1)
    assert list(table) == ["file", "predicted", "p", "flagged", "score", "leaves", "error"]
    assert table["file"].tolist() == list(range(5))
    assert (table["flagged"] == (table["p"] <= 0.1)).all()
    assert set(table["predicted"]) <= set(map(str, range(10)))
    paths = sorted(folder.iterdir())
    for same in (
        torch.from_numpy(images),
        list(images),
        pictures,
        folder,
        str(folder),
        paths,
        images[:, :, ::1],
    ):
        found = lstm(same, fpr=0.1)
        pd.testing.assert_frame_equal(found.drop(columns="file"), table.drop(columns="file"))
    assert lstm(folder, fpr=0.1)["file"].tolist() == [str(path) for path in paths]
    # Whatever the batches are.
    np.testing.assert_allclose(lstm(images, 0.1, batch_size=2)["score"], table["score"], rtol=1e-5)


def test_images_of_other_sizes_are_fitted_as_the_run_s_are(lstm, tmp_path, rng):
    image = rng.integers(0, 256, (48, 70, 3), dtype=np.uint8)
    expected = fitted(torch.from_numpy(image.transpose(2, 0, 1).copy()), 32, 32).numpy()
    assert expected.shape == (3, 32, 32)
    Image.fromarray(image).save(tmp_path / "a.png")
    for same in (image, Image.fromarray(image), tmp_path / "a.png", expected):
        assert (lstm._pixels(same).numpy() == expected).all()


def test_what_cannot_be_decoded_has_a_row_with_the_reason(lstm, pixels, tmp_path):
    Image.fromarray(pixels["original"][0].transpose(1, 2, 0)).save(tmp_path / "b.png")
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "c.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    table = lstm(tmp_path, fpr=0.1)
    assert [Path(file).name for file in table["file"]] == ["a.png", "b.png", "c.png"]
    assert table["error"].str.contains("cannot be decoded").tolist() == [True, False, True]
    assert table["p"].isna().tolist() == table["score"].isna().tolist() == [True, False, True]
    assert table["flagged"].dtype == bool
    alone = lstm(tmp_path / "a.png", fpr=0.1)
    assert not alone["flagged"].any()
    assert lstm(pixels["original"][:1], fpr=0.1)["score"][0] == table["score"][1]


def test_a_path_leaves_at_the_layer_from_which_on_the_medoids_are_of_others():
    nearest = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0]])
    seen = Seen([], [], np.ones(5, dtype=int), np.empty((5, 1)), nearest)
    assert _leaves(seen).tolist() == [3, 3, 2, 0, 1]


def test_scoring_again_and_again_leaves_nothing_behind(lstm, pixels):
    def hooks() -> int:
        return sum(len(module._forward_hooks) for module in lstm._classifier.modules())

    before = hooks()
    first, second = (lstm(pixels["original"][:3], fpr=0.1) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert hooks() == before == 0


@pytest.mark.parametrize("name", [SQUEEZING, MOVING])
def test_images_are_looked_at_again_in_any_batches_and_by_whoever_calls(bundled, pixels, name):
    detector = Detector.load(bundled / "bundles" / name, device="cpu")
    expected = detector.seen(pixels["step"]).scores
    with torch.inference_mode():
        found = detector.seen(pixels["step"], batch_size=7).scores
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    hooks = sum(len(module._forward_hooks) for module in detector._classifier.modules())
    assert hooks == (len(detector.layers) if name == MOVING else 0)


def test_whoever_loads_one_keeps_the_draws(bundled):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Detector.load(bundled / "bundles/lstm", device="cpu")
    assert torch.equal(torch.rand(3), expected)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.integers(-5, 5).map(torch.tensor),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=50)
@given(VALUES)
def test_a_state_is_read_as_it_was_written(value):
    tensors: dict[str, torch.Tensor] = {}
    plain = json.loads(json.dumps(bundle._plain(value, "fold-0", tensors)))
    assert same(bundle._state(plain, tensors), value)


def same(found, expected) -> bool:
    if type(found) is not type(expected):
        return False
    if isinstance(found, dict):
        return list(found) == list(expected) and all(same(found[key], expected[key]) for key in found)
    if isinstance(found, list | tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool((found == expected).all()) if isinstance(found, torch.Tensor) else found == expected


def test_a_bundle_is_safetensors_json_and_text(bundled):
    for folder in (bundled / "bundles").iterdir():
        assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json", ".md"}
    about = Bundle(bundled / "bundles/knn").about
    assert about["references"] == 1
    assert about["searched"] == SMALL["classifier"]["layers"][-1:]
    assert Bundle(bundled / "bundles/lstm").about["references"] == 0


def test_the_card_has_the_auc_of_the_run(bundled):
    row = tables.read(bundled / "summary.zarr.zip").set_index(["detector", "population", "measure"])
    auc = row.loc[("lstm", "all", "auc")]
    card = Bundle(bundled / "bundles/lstm").card
    assert f"| known | {auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}] | step |" in card
    assert "50 genuine images" in card
    assert "no attacker who knows lstm was tried in this run." in card


def test_the_card_says_what_an_attacker_who_knows_the_detector_reaches(finished):
    evaded = finished.table("adaptive").query("detector == 'lstm' and eps == 255")
    card = Bundle(finished.results / "detectors/lstm/bundle").card
    share = 100 * evaded["evaded"].sum() / evaded["images"].sum()
    assert re.search(rf"an attacker who knows it evades it in {share:.0f} \(\d+ to \d+\) of 100 cases", card)


FILES = [
    "manifest.json",
    "about.json",
    "network.safetensors",
    "classes.safetensors",
    "folds.safetensors",
    "genuine.safetensors",
    "examples.safetensors",
    "README.md",
]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_or_missing_file_is_named(copied, name):
    path = copied / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(
        detour.DetourError, match=rf"bundle/({name}|\w+.*): (is damaged|cannot be read).*again"
    ):
        Detector.load(copied)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(detour.DetourError, match=rf"{name}: is damaged"):
        Detector.load(copied)
    path.unlink()
    with pytest.raises(detour.DetourError, match=name):
        Detector.load(copied)


def test_a_bundle_of_another_format_is_refused(copied):
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps(manifest | {"format": 4, "detour": "9.0"}))
    with pytest.raises(detour.DetourError, match=r"is of format 4 \(detour 9.0\), expected 3; read it with"):
        Detector.load(copied)


@pytest.fixture
def of_a_file(copied, tmp_path, monkeypatch) -> Path:
    """A bundle whose network is made by nets.py, in the folder where the test runs."""
    monkeypatch.chdir(tmp_path)
    about, manifest = (json.loads((copied / name).read_text()) for name in ("about.json", "manifest.json"))
    Path("nets.py").write_text(
        "from detour.networks import SmallResNet\n\n\ndef made():\n    print('loaded')\n    return SmallResNet(10)\n"
    )
    about["network"] |= {"model": "nets.py:made", "options": {}}
    about["outside"] = {"nets.py:made": bundle._source("nets.py:made")}
    (copied / "about.json").write_text(json.dumps(about))
    manifest["files"]["about.json"] = bundle.sha256(copied / "about.json")
    (copied / "manifest.json").write_text(json.dumps(manifest))
    return copied


def test_code_from_outside_that_is_another_is_refused(of_a_file, tmp_path):
    with pytest.raises(detour.DetourError, match=r"runs code from outside, nets.py:made, .*`--trust`"):
        Detector.load(of_a_file)
    assert str(tmp_path / "nets.py") not in sys.modules
    mine = ["nets.py:made"]
    Detector.load(of_a_file, device="cpu", trusted=mine)
    Path("nets.py").write_text(Path("nets.py").read_text().replace("(10)", "(10, (3, 3, 2))"))
    bundle.code._meaning.cache_clear()
    with pytest.raises(
        detour.DetourError, match=r"nets.py:made is another than it was made with \(found \w+, exp"
    ):
        Detector.load(of_a_file, trusted=mine)
    Path("nets.py").unlink()
    with pytest.raises(detour.DetourError, match=r"bundle: found no file 'nets.py'"):
        Detector.load(of_a_file, trusted=mine)


def test_what_cannot_be_asked_is_refused(lstm, pixels, tmp_path):
    wrong = {
        "found no image": lambda: lstm(tmp_path, fpr=0.1),
        "found no file or folder": lambda: lstm(tmp_path / "none.png", fpr=0.1),
        r"fpr: found 0.001, allowed: from 0.02": lambda: lstm(pixels["original"], fpr=0.001),
        r"images: found 3, expected paths": lambda: lstm(3, fpr=0.1),
        r"device: found 'tpu'": lambda: Detector.load(lstm.bundle.path, device="tpu"),
        r"found no manifest.json": lambda: Detector.load(tmp_path),
    }
    for message, call in wrong.items():
        with pytest.raises(detour.DetourError, match=message):
            call()


def command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_prints_a_line_an_image_and_says_by_its_status_whether_one_is_flagged(
    bundled, lstm, pixels, tmp_path
):
    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in enumerate(pixels["step"]):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i:03}.png")
    expected = lstm(folder, fpr=0.3)
    assert expected["flagged"].nunique() == 2
    place, out = bundled / "bundles/lstm", tmp_path / "scores.csv"
    done = command("score", place, folder, "--fpr", 0.3, "--json", "--out", out, "--device", "cpu")
    assert done.exit_code == 3
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["flagged"] for line in lines] == expected["flagged"].tolist()
    written = pd.read_csv(out, keep_default_na=False, dtype={"predicted": str})
    pd.testing.assert_frame_equal(written, expected)
    genuine = expected["file"][~expected["flagged"]].tolist()
    quiet = command("score", place, *genuine, "--fpr", 0.3, "--device", "cpu")
    assert quiet.exit_code == 0
    assert len(quiet.stdout.splitlines()) == 1 + len(genuine)


def test_what_code_from_outside_prints_is_not_among_the_verdicts(of_a_file, pixels):
    Image.fromarray(pixels["step"][0].transpose(1, 2, 0)).save("a.png")
    done = command("score", of_a_file, "a.png", "--fpr", 0.1, "--json", "--trust", "nets.py:made")
    assert json.loads(done.stdout)["file"] == "a.png"
    assert "loaded" in done.stderr


def test_the_command_ends_with_2_where_something_is_wrong(copied, tmp_path):
    (tmp_path / "a.png").write_text("no image")
    done = command("score", copied, tmp_path / "a.png", "--fpr", 0.1, "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["p"] is None
    assert "cannot be decoded" in done.stdout
    wrong = {
        "found no file or folder": ("score", copied, tmp_path / "b.png", "--fpr", 0.1),
        "allowed: from 0.02": ("score", copied, tmp_path / "a.png"),
        "found no manifest.json": ("info", tmp_path),
    }
    for message, arguments in wrong.items():
        done = command(*arguments)
        assert done.exit_code == 2
        assert message in done.stderr
        assert done.stdout == ""


def test_the_command_says_what_a_bundle_is(copied):
    done = command("info", copied)
    assert done.exit_code == 0
    assert done.stdout == (copied / "README.md").read_text()


def test_what_only_asks_for_the_command_or_the_errors_waits_for_no_torch():
    script = "import sys, detour, detour.command; print('torch' in sys.modules, detour.Detector.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "Detector"]
