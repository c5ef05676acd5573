"""Controls: harmless changes against other implementations, and what becomes of them up to the tables."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torchvision.io import decode_jpeg, encode_jpeg

import asked
from conftest import SMALL
from detour import bundle, config, controls, detectors, figures, metrics, store, strengths, tables, tabulated
from detour.config import ConfigError
from detour.detectors import Run
from detour.detectors.versions import Versions
from detour.options import controls as options
from detour.protocols import cases

pytestmark = pytest.mark.usefixtures("forked")

EVERY = asked.CONTROLS


def changed(images: np.ndarray, method: str, seeds=None, **entry) -> np.ndarray:
    control = options.control({"name": "c", "method": method, **entry})
    return controls.changed(images, control, list(seeds or range(len(images))))


@pytest.fixture
def images(rng) -> np.ndarray:
    """Smooth ones, uint8 [4, 3, 24, 24]."""
    noise = rng.normal(size=(4, 3, 24, 24))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 2, 2))
    return np.uint8(np.clip(128 + 400 * smooth, 0, 255))


def test_the_catalogue_is_what_is_tested():
    assert set(EVERY) == set(options.METHODS)


@pytest.mark.parametrize("method", EVERY)
def test_every_image_is_changed_by_itself_and_in_the_same_way_again(images, method):
    found = changed(images, method, **EVERY[method])
    assert found.shape == images.shape
    assert found.dtype == np.uint8
    assert (found != images).any()
    again = changed(images[2:3], method, seeds=[2], **EVERY[method])
    np.testing.assert_array_equal(again[0], found[2])


SAME = {
    "noise": {"eps": 0}, "gaussian_noise": {"sigma": 0}, "motion": {"length": 1}, "rescale": {"factor": 1.0},
    "brightness": {"factor": 1}, "contrast": {"factor": 1}, "gamma": {"gamma": 1}, "crop": {"factor": 1.0},
    "rotate": {"degrees": 0},
}  # fmt: skip


@pytest.mark.parametrize("method", SAME)
def test_a_control_without_strength_changes_nothing(images, method):
    found = changed(images, method, **SAME[method])
    if method == "motion":
        # A line one pixel long lies askew over its neighbours.
        assert np.abs(found.astype(int) - images).mean() < 4
    else:
        assert np.abs(found.astype(int) - images).max() <= (1 if method == "gamma" else 0)


def test_images_that_shrink_to_one_pixel_have_its_colour(images):
    found = changed(images, "rescale", factor=0.01)
    assert (found == found[:, :, :1, :1]).all()
    np.testing.assert_allclose(found[:, :, 0, 0], images.mean((2, 3)), atol=0.5)


def _jpeg(image):
    encoded = encode_jpeg(torch.from_numpy(image), quality=50)
    return decode_jpeg(encoded).numpy()


def _contrast(image):
    luma = np.floor(image.astype(float).T @ [0.2989, 0.587, 0.114])
    return 0.6 * image + 0.4 * luma.mean()


def _grey(image):
    return np.repeat(np.tensordot([0.299, 0.587, 0.114], image.astype(float), 1)[None], 3, 0)


def _disc(image):
    # Points at random in the square tell how much of each pixel the disc covers.
    points = np.random.default_rng(0).uniform(-2.5, 2.5, (400_000, 2))
    inside = points[np.hypot(*points.T) <= 2]
    kernel = np.histogram2d(*inside.T, bins=np.arange(-2.5, 3))[0]
    return [
        ndimage.convolve(channel.astype(float), kernel / kernel.sum(), mode="mirror") for channel in image
    ]


# What another implementation makes of an image, and how far apart the two may be, by rounding and approximation.
ORACLES = {
    "jpeg": (_jpeg, 12),
    "gaussian_blur": (lambda x: ndimage.gaussian_filter(x.astype(float), (0, 1.5, 1.5), mode="mirror", truncate=10 / 3), 1),
    "defocus": (_disc, 1.5),
    "brightness": (lambda x: np.minimum(1.3 * x, 255), 1),
    "contrast": (_contrast, 2),
    "gamma": (lambda x: 255 * (x / 255) ** 1.5, 1),
    "grey": (_grey, 1),
    "flip": (lambda x: x[:, :, ::-1], 0),
}  # fmt: skip


@pytest.mark.parametrize("method", ORACLES)
def test_a_change_is_that_of_another_implementation(images, method):
    oracle, apart = ORACLES[method]
    for image, found in zip(images, changed(images, method, **EVERY[method]), strict=True):
        assert np.abs(found - np.clip(np.asarray(oracle(image), float), 0, 255)).max() <= apart


def test_a_quarter_turn_is_that_of_numpy(images):
    np.testing.assert_array_equal(changed(images, "rotate", degrees=90), np.rot90(images, axes=(2, 3)))


def test_no_corner_of_what_is_turned_is_black(images):
    assert changed(images + np.uint8(0), "rotate", degrees=45).min() >= images.min()


def test_the_middle_is_enlarged():
    image = np.zeros((1, 3, 24, 24), np.uint8)
    image[:, :, 6:18, 6:18] = 200
    assert (changed(image, "crop", factor=0.5) == 200).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 80), st.integers(0, 2**63 - 1))
def test_noise_stays_within_eps_and_fills_it(eps, seed):
    grey = np.full((1, 3, 32, 32), 128, np.uint8)
    moved = changed(grey, "noise", seeds=[seed], eps=eps).astype(int) - 128
    assert np.abs(moved).max() <= eps
    assert moved.std() == pytest.approx(eps / np.sqrt(3), rel=0.1, abs=0.5)


@pytest.mark.parametrize(("method", "entry", "deviation"), [("gaussian_noise", {"sigma": 10}, 10), ("shot_noise", {"photons": 100}, 255 * np.sqrt(128 / 255 / 100))])  # fmt: skip
def test_noise_has_its_deviation(method, entry, deviation):
    grey = np.full((4, 3, 32, 32), 128, np.uint8)
    found = changed(grey, method, **entry).astype(float)
    assert found.std() == pytest.approx(deviation, rel=0.05)
    assert found.mean() == pytest.approx(128, abs=1)


@pytest.mark.parametrize("method", ["gaussian_blur", "defocus", "motion"])
@pytest.mark.parametrize("side", [1, 2, 5])
def test_blur_reaches_no_further_than_a_small_image(method, side):
    grey = np.full((1, 3, side, side), 77, np.uint8)
    strong = {"gaussian_blur": {"sigma": 9}, "defocus": {"radius": 9}, "motion": {"length": 15}}[method]
    np.testing.assert_array_equal(changed(grey, method, **strong), grey)


def test_a_transform_of_torchvision_is_applied_and_draws_by_the_seed(images):
    method = "torchvision.transforms.v2:RandomPosterize"
    found = changed(images, method, options={"bits": 2, "p": 1.0})
    np.testing.assert_array_equal(found, images & 0b11000000)
    drawn = [changed(images, method, seeds=range(s, s + 4), options={"bits": 2, "p": 0.5}) for s in (0, 0, 7)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_a_store_has_every_row_in_its_place(tmp_path, write_store, made, images):
    original = write_store(
        "original", {"images": images, "label": np.arange(4), "source": np.arange(4) + 7, "key": np.arange(4)},
        classes=list("abcd"),
    )  # fmt: skip
    control = options.control({"name": "n", "method": "noise", "eps": 9})
    controls.change(original, tmp_path / "n.zarr.zip", control=control, seed=0, made=made)
    found = store.read(tmp_path / "n.zarr.zip")
    assert list(found["source"][:]) == [7, 8, 9, 10]
    assert set(found["target"][:]) == {-1}
    assert np.abs(found["images"][:].astype(int) - images).max() in range(1, 10)


def test_a_control_that_leaves_images_as_they_were_says_so(tmp_path, write_store, made, images, caplog):
    grey = np.repeat(images[:, :1], 3, 1)
    rows = {"label": np.arange(4), "source": np.arange(4), "key": np.arange(4)}
    original = write_store("original", {"images": grey} | rows, classes=list("abcd"))
    for method, said in (("grey", True), ("flip", False)):
        caplog.clear()
        control = options.control({"name": method, "method": method})
        with caplog.at_level("WARNING", "detour"):
            controls.change(original, tmp_path / f"{method}.zarr.zip", control=control, seed=0, made=made)
        assert ("4 of 4 images are as they were" in caplog.text) == said


def test_the_same_change_under_two_labels_is_told():
    wanted = run_of(controls=[{"name": "n", "method": "noise", "eps": 8}])
    assert {"noise"} <= {attack["method"] for attack in wanted["attacks"]}
    assert not any("made alike" in line for line in config.warnings(config.load(wanted)))
    wanted["detectors"][0]["controls"] = True
    assert any(
        "noise and the control n are made alike" in line for line in config.warnings(config.load(wanted))
    )


def test_the_card_of_a_bundle_tells_false_alarms():
    row = {
        "detector": "d",
        "protocol": "known",
        "population": "harmless",
        "cell": "blur",
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
    }
    summary = pd.DataFrame([row | {"measure": "worst_control@0.05"}, row | {"measure": "controls@0.05"}])
    (line, _) = bundle._false_alarms(summary)
    assert (
        "for 5 % false positives it flags 0.500 [0.400, 0.600] of the harmless images of the worst control, blur"
        in line
    )
    assert bundle._false_alarms(summary.assign(measure="auc")) == []


def run_of(**changes) -> dict:
    return copy.deepcopy(SMALL) | changes


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"name": "step", "method": "flip"}], "controls[0].name: found 'step', the name of an attack"),
        ([{"name": "c", "method": "flip"}] * 2, "controls: the name 'c' stands 2 times"),
        ([{"name": "unchanged", "method": "flip"}], "controls: the name 'unchanged' is taken"),
        ([{"name": "c", "method": "jpg"}], "controls[0].method: found 'jpg'"),
        ([{"name": "f", "method": "flip"}, {"name": "c", "method": "jpeg", "quality": [50, 101]}], "controls[1].quality: found 101"),
        ([{"name": "c", "method": "torchvision.transforms.v2:Nothing"}], "controls[0]: found no 'Nothing'"),
        ([{"name": "c", "method": "torchvision.transforms.v2:RandomPosterize"}], "controls[0]: torchvision.transforms.v2:RandomPosterize() of an image raised TypeError"),
        ([{"name": "c", "method": "torchvision.transforms.v2:Resize", "options": {"size": 9}}], "is none of that shape and type"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_place(entries, said):
    with pytest.raises(ConfigError) as error:
        config.load(run_of(controls=entries))
    assert said in str(error.value)


def test_a_detector_that_knows_controls_needs_some():
    wanted = run_of()
    wanted["detectors"][0]["controls"] = True
    with pytest.raises(ConfigError, match="controls: found true, and there are no `controls`"):
        config.load(wanted)


def test_a_list_of_strengths_is_a_control_at_each():
    entries = [
        {"name": "j", "method": "jpeg", "quality": [75, 50]},
        {"name": "b", "method": "gaussian_blur", "sigma": [0.5, 1.0]},
    ]
    found = config.load(run_of(controls=entries)).controls
    assert [(c.name, getattr(c, c.strength)) for c in found] == [
        ("j-75", 75),
        ("j-50", 50),
        ("b-0_5", 0.5),
        ("b-1", 1),
    ]
    assert strengths.placed(["controls[3].sigma: x", "attacks[0].eps: y"], {"controls": [0, 0, 1, 1], "attacks": [0]}) == [
        "controls[1].sigma: x", "attacks[0].eps: y",
    ]  # fmt: skip


ATTACKS, CONTROLS = {"a": "steps", "b": "steps", "c": "other"}, {"n-1": "noise", "n-2": "noise", "j": "jpeg"}


def test_who_knows_no_control_is_tested_on_all_of_them():
    (known,) = cases(["known"], ATTACKS, CONTROLS)
    assert (known.genuine, known.changed) == ([], ["n-1", "n-2", "j"])
    assert [case.name for case in cases(["unknown"], ATTACKS, CONTROLS)] == ["a", "b", "c"]
    assert not any(case.changed for case in cases(["unknown", "transfer"], ATTACKS, CONTROLS))


def test_who_knows_controls_is_tested_on_each_without_its_family():
    (known,) = cases(["known"], ATTACKS, CONTROLS, genuine=True)
    assert known.genuine == known.changed == ["n-1", "n-2", "j"]
    found = {case.name: case for case in cases(["unknown"], ATTACKS, CONTROLS, genuine=True)}
    assert list(found) == ["a", "b", "c", "n-1", "n-2", "j"]
    assert (found["a"].known, found["a"].genuine, found["a"].changed) == (["c"], ["n-1", "n-2", "j"], ())
    assert (found["n-1"].known, found["n-1"].tested) == (["a", "b", "c"], [])
    assert (found["n-1"].genuine, found["n-1"].changed) == (["j"], ["n-1"])


N, L, C, FOLDS = 240, 2, 3, 2
SETS = ["original", "attack", "noise", "still"]


@pytest.fixture
def planted(rng, write_store, write_table):
    """Distances that the attack moves at one layer, and noise at the other; one control changes nothing."""
    values = np.repeat(rng.gamma(4, size=(1, N, L, C)), len(SETS), 0).astype(np.float32)
    values[1, :, 0] += 6
    values[1:3, :, 1] += 3
    stores = {name: write_store(name, {"distances": rows}) for name, rows in zip(SETS, values, strict=True)}
    dealt = pd.DataFrame({"source": np.arange(N), "label": np.arange(N) % C})
    for k in range(FOLDS):
        dealt[f"fold-{k}"] = np.roll(np.repeat(["test", "validation", "train", "train"], N // 4), k * N // 2)
    return Run(stores, controls=["noise", "still"]), write_table("folds", dealt)


def measured(planted, made, tmp_path, *, genuine: bool, protocols=("known",)):
    """Scores, metrics and summary of a detector that knows the controls or not."""
    run, dealt = planted
    option = asked.entry("logistic", "log", controls=genuine)
    found, families = [], {"noise": "noise", "still": "still"}
    told = {"protocols": list(protocols), "seed": 0, "made": made}
    for fold in range(FOLDS):
        model, scores = tmp_path / f"model-{fold}.pt", tmp_path / f"scores-{fold}.zarr.zip"
        history = tmp_path / "history.zarr.zip"
        known = families if genuine else None
        detectors.train(run, dealt, model, history, options=option, controls=known, fold=fold, **told)
        detectors.evaluate(run, dealt, model, scores, name="log", controls=families, fold=fold, **told)
        found.append(tables.read(scores))
    scores = pd.concat(found, ignore_index=True)
    verdicts = pd.DataFrame({"set": np.repeat(SETS, N), "source": np.tile(np.arange(N), len(SETS))})
    attacked = verdicts["set"] == "attack"
    # The classifier is wrong about every tenth image, and noise turns every seventh.
    verdicts["right"] = verdicts["source"] % 10 > 0
    turned = attacked | ((verdicts["set"] == "noise") & (verdicts["source"] % 7 == 0))
    verdicts["successful"], verdicts["failed"] = verdicts["right"] & turned, verdicts["right"] & ~turned
    verdicts["hit"] = False
    return (
        scores,
        verdicts,
        *metrics.evaluate(scores, verdicts, draws=200, fpr=[0.05], base_rate=0.001, seed=0),
    )


def shares(table, **key) -> pd.DataFrame:
    return table[(table[list(key)] == pd.Series(key)).all(axis=1)]


def test_a_detector_of_noise_is_exposed_and_one_that_knows_controls_is_not(planted, made, tmp_path):
    """And a control that changes nothing is flagged as the originals are, by both."""
    worst = {}
    for genuine in (False, True):
        _, _, table, summary = measured(planted, made, tmp_path, genuine=genuine)
        flagged = shares(table, measure="fpr@0.05", population="all", originals="all").set_index("attack")[
            "value"
        ]
        assert flagged["still"] == flagged["original"] <= 0.15
        row = shares(summary, measure="worst_control@0.05", population="harmless").iloc[0]
        worst[genuine] = row["value"]
        assert row["cell"] == "noise" or genuine
        assert shares(table, measure="tpr@0.05", population="all", originals="all")["value"].iloc[0] > 0.6
    assert worst[False] > 0.4
    assert worst[True] < worst[False] / 2


def test_flagged_shares_are_those_of_a_plain_count(planted, made, tmp_path):
    scores, verdicts, table, _ = measured(planted, made, tmp_path, genuine=False)
    facts = verdicts[verdicts["set"] == "noise"].set_index("source")
    expected = {"all": [], "harmless": [], "harmful": []}
    for _, fold in scores.groupby("fold"):
        genuine = fold["score"][fold["role"] == "validation"]
        limit = metrics.threshold(genuine.to_numpy(), 0.05)
        noisy = fold[(fold["set"] == "noise") & (fold["role"] == "test")].set_index("source")["score"] > limit
        of = facts.loc[noisy.index]
        expected["all"].append(noisy.mean())
        expected["harmless"].append(noisy[of["failed"]].mean())
        expected["harmful"].append(noisy[of["successful"]].mean())
    for population, values in expected.items():
        row = shares(table, attack="noise", measure="fpr@0.05", population=population)
        assert row["value"].item() == pytest.approx(np.mean(values))
        assert row["low"].item() <= row["value"].item() <= row["high"].item()


def test_controls_are_negatives_of_training_and_no_part_of_an_auc(planted, made, tmp_path):
    run, _ = planted
    versions = Versions(run, np.arange(4))
    assert dict(zip(versions.set, versions.adversarial, strict=True)) == {
        name: name == "attack" for name in SETS
    }
    _, _, table, summary = measured(planted, made, tmp_path, genuine=True, protocols=("known",))
    assert set(shares(table, measure="auc")["attack"]) == {"attack"}
    assert set(summary["measure"]) == {"auc", "worst", "controls@0.05", "worst_control@0.05"}


@pytest.fixture
def told(planted, made, tmp_path, write_table):
    _, _, table, summary = measured(planted, made, tmp_path, genuine=True)
    return write_table("metrics", table), write_table("summary", summary)


def test_the_table_and_the_figure_have_what_was_measured(told):
    table, summary = (tables.read(path) for path in told)
    found = tabulated.controls(table, 0.05, {"log": True})
    assert found.columns == ["threshold for 5%", "controls in training", "unchanged", "noise", "still"]
    (row,) = found.rows
    value = shares(table, attack="noise", measure="fpr@0.05", population="harmless")["value"].item()
    assert (row[0], row[1], row[3].value) == ("log", "all", f"{value:.1%}")
    assert "of all" in row[3].notes[0]
    (axes,) = figures.controls(*told, fpr=0.05).figure.axes
    (point,) = axes.containers
    worst = shares(summary, measure="worst_control@0.05", population="harmless")["value"].item()
    found = shares(table, measure="tpr@0.05", population="successful", originals="all", attack="attack")[
        "value"
    ].item()
    np.testing.assert_allclose(np.asarray(point.lines[0].get_data(), float), [[worst], [found]])


def test_torch_draws_of_others_are_as_before(images):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    changed(images, "torchvision.transforms.v2:RandomPosterize", options={"bits": 2, "p": 0.5})
    torch.testing.assert_close(torch.rand(2), expected)
