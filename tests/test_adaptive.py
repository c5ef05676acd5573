import copy
import pickle
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import asked
import stages
from conftest import SMALL, Workflow
from detour import (
    activations,
    adaptive,
    classifiers,
    config,
    detectors,
    distances,
    figures,
    folds,
    store,
    tables,
)
from detour.adaptive import METHODS, Defence, evade, losses_of, orthogonal, wanted_of
from detour.classifiers import Classifier
from detour.config import ConfigError
from detour.detectors import Run, Versions
from detour.options.adaptive import Attack, Method
from detour.store import NO_TARGET, Made
from stages import Stages

SIDE, C, LAYERS = 6, 4, ["0", "2"]
DETECTORS = {
    "lstm": {"hidden": 16, "epochs": 30, "batch_size": 50, "lr": 0.01, "scale": "standard"},
    "fisher_mlp": {
        "ridge": 0.01, "hidden": 16, "dropout": 0.1, "epochs": 10, "batch_size": 50, "lr": 0.001,
        "weight_decay": 0.01,
    },
}  # fmt: skip
ENTRY = Attack(
    method="pgd", eps=[0, 255], steps=40, step=2.5, weight=1, target="dataset", images=10, fpr=0.05
)


@pytest.fixture(scope="module")
def small() -> Defence:
    """Four classes, two convolutions, smooth; medoids and an LSTM with random weights."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(8, 8, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(128, C),
    )
    classifier = Classifier(network, [0.5] * 3, [0.25] * 3).requires_grad_(False).eval()
    detector = asked.detector("lstm", hidden=5, epochs=1, batch_size=1, lr=1, scale="raw")
    detector._build(len(LAYERS), C)
    points = np.random.default_rng(0).normal(size=(2, C, 8)).astype(np.float32)
    defence = Defence(classifier, LAYERS, list(points), detector, threshold=0.1)
    # The first batch is looked at, by a hook that a copy of the classifier would have as well.
    defence(torch.rand(2, 3, 6, 6))
    return defence


def pixels(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, SIDE, SIDE), dtype=np.uint8)


def losses(defence: Defence, x: torch.Tensor, wanted: np.ndarray) -> adaptive.Losses:
    aim, start = torch.from_numpy(wanted.argmax(1)), torch.full((len(x), len(LAYERS)), 2.0)
    return losses_of(defence(x), x, torch.from_numpy(wanted), aim, start)


@pytest.mark.parametrize("name", ["classification", "detection", "matching"])
def test_gradients_are_those_of_finite_differences(small, name):
    x = torch.from_numpy(pixels(3)).div(255).requires_grad_()
    wanted = wanted_of(np.arange(3), np.array([1, NO_TARGET, 3]), C)
    gradient = adaptive._gradient(getattr(losses(small, x, wanted), name), x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    h = 3e-3
    with torch.no_grad():
        up, down = (getattr(losses(small, x + h * d, wanted), name) for d in (direction, -direction))
    torch.testing.assert_close(
        (gradient * direction).sum((1, 2, 3)), (up - down) / (2 * h), rtol=0.02, atol=2e-3
    )


def test_the_gradient_is_finite_where_an_image_lies_on_a_medoid(small):
    x = torch.from_numpy(pixels(1)).div(255).requires_grad_()
    small(x)
    on = [small._recorder.averages[name].detach().numpy().repeat(C, 0) for name in LAYERS]
    defence = Defence(small.classifier, LAYERS, on, small.detector, 0)
    seen = defence(x)
    assert (seen.distances == 0).all()
    gradient = adaptive._gradient(seen.score + seen.distances.sum((1, 2)), x)
    assert gradient.isfinite().all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0, 1e-30, 1e-12, 1, 1e12]))
def test_a_projected_gradient_is_orthogonal_to_the_other(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    v, u = torch.randn((2, 4, 3, 2, 2), generator=generator)
    found = orthogonal(v, u * scale).flatten(1)
    if not scale:
        torch.testing.assert_close(found, v.double().flatten(1), rtol=0, atol=0)
        return
    cosine = torch.cosine_similarity(found, u.double().flatten(1), eps=1e-300)
    assert (cosine.abs() < 1e-6).all()
    # What was taken away is along u.
    away = v.double().flatten(1) - found
    assert (torch.cosine_similarity(away, u.double().flatten(1)).abs() > 1 - 1e-6).all()


@pytest.mark.parametrize("method", ["selective", "orthogonal"])
def test_the_loss_that_is_descended_is_chosen_image_by_image(small, method):
    x = torch.from_numpy(pixels(4)).div(255).requires_grad_()
    predicted = small(x).logits.argmax(1).numpy()
    as_wanted = np.array([True, False, False, True])
    wanted = wanted_of(predicted, np.where(as_wanted, predicted, (predicted + 1) % C), C)
    classification, detection = (
        adaptive._gradient(getattr(losses(small, x, wanted), name), x)
        for name in ("classification", "detection")
    )
    if method == "orthogonal":
        classification, detection = (
            orthogonal(classification, detection),
            orthogonal(detection, classification),
        )
    found = METHODS[method](losses(small, x, wanted), 1)
    expected = torch.where(torch.from_numpy(as_wanted).view(-1, 1, 1, 1), detection, classification)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("part", ["network", "detector", "gradient"])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_finite_is_refused(small, method, part):
    """Comparisons with NaN are False and its sign is 0: the image would stay as it is, and count as one that failed."""
    classifier, detector = copy.deepcopy(small.classifier), copy.deepcopy(small.detector)
    match part:
        case "network":
            classifier.network[5].bias[2] = torch.nan
        case "detector":
            detector.net.unit.bias.data[0] = torch.nan
        case "gradient":
            classifier.network[0].register_full_backward_hook(lambda module, i, o: (i[0] * torch.nan,))
    medoids = [m.numpy() for m in small._medoids]
    broken = Defence(classifier, LAYERS, medoids, detector, threshold=0.1)
    wanted = wanted_of(np.arange(3), np.full(3, NO_TARGET), C)
    message = rf"{method}: (losses|gradients) of step 0 are not finite for 3 of 3 images"
    with pytest.raises(RuntimeError, match=message):
        evade(
            broken, pixels(3), wanted, np.full(3, 8), ENTRY.model_copy(update={"method": method, "steps": 2})
        )


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 999),
    eps=st.lists(st.integers(0, 255), min_size=5, max_size=5),
    method=st.sampled_from(sorted(METHODS)),
    step=st.floats(0.1, 9),
)
def test_every_pixel_is_within_the_integer_budget_of_its_row(small, seed, eps, method, step):
    x, eps = pixels(5, seed), np.array(eps)
    attack = ENTRY.model_copy(update={"method": method, "steps": 6, "step": step})
    found = evade(small, x, wanted_of(np.zeros(5, int), np.full(5, 1), C), eps, attack)
    assert found.images.dtype == np.uint8
    spent = np.abs(found.images.astype(int) - x).max((1, 2, 3))
    assert (spent <= eps).all()
    np.testing.assert_array_equal(found.images[eps == 0], x[eps == 0])
    assert found.classification.shape == found.detection.shape == (5, 7)


def test_the_kept_iterate_is_the_best_that_was_seen(small):
    """Classified as wanted and below the threshold where any is; the losses of all are at hand."""
    n = 12
    x, wanted = pixels(n), wanted_of(np.zeros(n, int), np.arange(n) % C, C)
    found = evade(
        small, x, wanted, np.full(n, 60), ENTRY.model_copy(update={"method": "selective", "steps": 15})
    )
    with torch.no_grad():
        seen = losses(small, torch.from_numpy(found.images).div(255), wanted)
    for i in range(n):
        # A loss of less than log 2 is more than half of the probability.
        met = (found.classification[i] < np.log(2) - 1e-4) & (found.detection[i] <= small.threshold)
        if met.any():
            assert seen.succeeded[i]
            assert seen.detection[i] <= found.detection[i][met].min() + 1e-5


def test_an_attack_that_leaves_its_budget_is_refused(small, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "clamp", lambda self, low, high: self)
    with pytest.raises(RuntimeError, match=r"pgd: moved a pixel by \d+, its eps is 2"):
        evade(
            small, pixels(1), wanted_of(np.zeros(1, int), np.ones(1, int), C), np.array([2]),
            ENTRY.model_copy(update={"step": 200, "steps": 3}),
        )  # fmt: skip


def test_the_attacked_images_follow_the_seed_and_not_each_other():
    label, keys = np.arange(60) % 3, np.arange(60)
    predicted = np.where(np.arange(60) % 4, label, label + 1)
    few, more = (adaptive._chosen(predicted, label, n, 0, np.arange(40), keys) for n in (5, 9))
    assert set(few) < set(more)
    assert (predicted[more] == label[more]).all()
    # Without one of them, the others stay.
    left = np.setdiff1d(np.arange(40), few[:1])
    assert set(few[1:]) < set(adaptive._chosen(predicted, label, 5, 0, left, keys))
    assert set(few) != set(adaptive._chosen(predicted, label, 5, 1, np.arange(40), keys))
    with pytest.raises(ValueError, match="found no test image"):
        adaptive._chosen(label + 1, label, 5, 0, np.arange(40), keys)


# A run on digits, with a detector of either family on which attacks descend.
SETTINGS = {
    "run": "attacked",
    "dataset": {"name": "digits", "test": 300},
    "classifier": SMALL["classifier"],
    "attacks": [{"name": "step", "method": "fgsm", "eps": 48, "target": "dataset"}],
    "folds": {"count": 2},
    "detectors": [{"name": name, "method": name, **options} for name, options in DETECTORS.items()],
}


@pytest.fixture(scope="session")
def run(shared) -> Stages:
    def make(folder: Path) -> None:
        made = stages.run(folder, config.load(SETTINGS), trained=[0])
        (folder / "stages").write_bytes(pickle.dumps(made))

    return pickle.loads((shared("attacked", make) / "stages").read_bytes())


def detector_of(run: Stages, method: str):
    return detectors.load(run.models[method, 0])


def adapt(run: Stages, out: Path, detector: str = "lstm", batch_size: int = 100, **changes) -> Path:
    entry = ENTRY.model_copy(update=dict(**changes))
    made = Made({}, "")
    adaptive.adapt(
        classifier=run.classifier,
        images=run.images["original"],
        activations=run.stores.activations["original"],
        distances=run.stores.distances["original"],
        medoids=run.medoids,
        folds=run.folds,
        model=run.models[detector, 0],
        out=out,
        attack=entry,
        name=detector,
        fold=0,
        seed=0,
        batch_size=batch_size,
        device="cpu",
        made=made,
    )
    return out


@pytest.mark.parametrize("method", DETECTORS)
def test_the_detector_of_the_test_is_worth_attacking(run, method):
    tested = folds.sources(run.folds, 0, "test")
    original, step = (
        detector_of(run, method).score(Versions(run.stores, tested, [name])) for name in ("original", "step")
    )
    assert (step[:, None] > original).mean() > 0.8


@pytest.mark.parametrize("method", DETECTORS)
def test_the_attack_s_distances_and_scores_are_the_stored_ones(run, method):
    saved = [store.read(path)["medoid"][:] for path in run.medoids]
    net = classifiers.load(run.classifier, torch.device("cpu"), keep=run.layers)
    detector = detector_of(run, method)
    x = store.read(run.images["original"])["images"][:]
    with torch.no_grad():
        seen = Defence(net, run.layers, saved, detector, 0)(torch.from_numpy(x).float().div(255))
    kept = store.read(run.stores.distances["original"])
    np.testing.assert_allclose(seen.distances.numpy(), kept["distances"][:], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(seen.logits.argmax(1).numpy(), kept["predicted"][:])
    predicted, score = adaptive.judge(net, run.layers, saved, detector, x, 64)
    np.testing.assert_array_equal(predicted, kept["predicted"][:])
    expected = detector.score(Versions(run.stores, np.arange(len(x)), ["original"]))
    np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(seen.score.numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("detector", "method", "target"),
    [
        *(("lstm", method, "dataset") for method in METHODS),
        ("lstm", "orthogonal", "none"),
        ("fisher_mlp", "orthogonal", "dataset"),
    ],
)
def test_with_every_pixel_free_the_detector_is_evaded_and_with_none_it_is_not(
    run, tmp_path, detector, method, target
):
    out = adapt(run, tmp_path / "adapted.zarr.zip", detector, method=method, target=target)
    found = store.read(out)
    original = store.read(run.images["original"])
    eps, source = found["eps"][:], found["source"][:]
    evaded = found["succeeded"][:] & ~found["flagged"][:]
    np.testing.assert_array_equal(found["images"][:][eps == 0], original["images"][:][source[eps == 0]])
    assert not evaded[eps == 0].any()
    assert (found["predicted"][:] == found["label"][:])[eps == 0].all()
    assert evaded[eps == 255].mean() >= 0.95
    if target == "none":
        assert (found["target"][:] == NO_TARGET).all()
    else:
        assert (found["predicted"][:] == found["target"][:])[eps == 255].mean() >= 0.95


def test_what_is_reported_is_what_the_stages_make_of_the_stored_bytes(run, tmp_path, made):
    out = adapt(run, tmp_path / "adapted.zarr.zip", eps=[16, 64], steps=10, target="random")
    found = store.read(out)
    seen, measured = tmp_path / "activations.zarr.zip", tmp_path / "distances.zarr.zip"
    activations.extract(run.classifier, out, seen, layers=run.layers, batch_size=7, device="cpu", made=made)
    distances.measure(seen, run.medoids, measured, made=made)
    again = store.read(measured)
    np.testing.assert_array_equal(found["predicted"][:], again["predicted"][:])
    versions = Versions(Run.of(distances=[measured]), np.arange(len(again["label"][:])))
    score = detector_of(run, "lstm").score(versions)
    np.testing.assert_allclose(found["score"][:], score, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found["flagged"][:], found["score"][:] > found.attrs["threshold"])
    np.testing.assert_array_equal(found["succeeded"][:], found["predicted"][:] == found["target"][:])
    assert set(found["source"][:]) <= set(folds.sources(run.folds, 0, "test"))
    assert (found["linf"][:] <= found["eps"][:]).all()


def test_draws_follow_the_image_and_not_the_batch_or_the_eps(run, tmp_path):
    a, b = (
        store.read(
            adapt(run, tmp_path / f"{size}.zarr.zip", batch_size=size, eps=eps, steps=1, target="random")
        )
        for size, eps in ((100, [8]), (3, [8, 9]))
    )
    n = len(a["source"][:])
    for name in ("source", "target", "eps"):
        np.testing.assert_array_equal(a[name][:], b[name][:][:n])
    assert (a["target"][:] != a["label"][:]).all()


@pytest.fixture
def tabulated(tmp_path, write_store, made) -> tuple[Path, list[Path]]:
    """Two detectors, two methods, two folds, four images each: at eps 8 one evades, at 16 three."""
    adapted = [
        write_store(
            f"{detector}-{method}-{fold}",
            {
                "eps": np.repeat([8, 16], 4),
                "succeeded": np.array([1, 1, 0, 0, 1, 1, 1, 1], bool),
                "flagged": np.array([0, 1, 1, 0, 0, 0, 0, 1], bool),
                "classification": np.linspace([3] * 8, [0] * 8, 5, axis=1).astype(np.float32),
                "detection": np.linspace([2] * 8, [-1] * 8, 5, axis=1).astype(np.float32),
            },
            detector=detector,
            method=method,
            fold=fold,
            threshold=0.5,
        )
        for detector in ("lstm", "fisher")
        for method in ("pgd", "orthogonal")
        for fold in (0, 1)
    ]
    adaptive.tabulate(adapted, tmp_path / "adaptive.zarr.zip", made=made)
    return tmp_path / "adaptive.zarr.zip", adapted


def test_the_table_counts_what_evades(tabulated):
    table = tables.read(tabulated[0])
    assert list(table["detector"]) == ["lstm"] * 8 + ["fisher"] * 8
    assert list(table["method"]) == (["pgd"] * 4 + ["orthogonal"] * 4) * 2
    first = table.query("detector == 'lstm' and method == 'pgd' and fold == 1").set_index("eps")
    assert first[["images", "succeeded", "flagged", "evaded", "share"]].values.tolist() == [
        [4, 2, 2, 1, 0.25],
        [4, 4, 1, 3, 0.75],
    ]
    # Wilson 1927, by hand: the roots of (p - 1/4)^2 = z^2 p (1 - p) / 4.
    z = 1.959964
    roots = np.roots([1 + z**2 / 4, -0.5 - z**2 / 4, 1 / 16])
    np.testing.assert_allclose(first.loc[8, ["low", "high"]].astype(float), sorted(roots), atol=1e-6)


def test_the_figure_shows_the_shares_of_all_folds_and_the_losses_at_the_middle_eps(tabulated):
    table, adapted = tabulated
    figure = figures.adaptive(table, adapted).figure
    assert [part.get_suptitle() for part in figure.subfigs] == ["lstm", "fisher"]
    for part in figure.subfigs:
        share, classification, detection = part.axes
        evaded, succeeded = [2 / 8, 6 / 8], [4 / 8, 8 / 8]
        assert [list(line.get_ydata()) for line in share.lines] == [evaded, succeeded] * 2 + [[]]
        assert [line.get_label() for line in share.lines[::2]] == [
            "pgd", "orthogonal", "taken for what was wanted",
        ]  # fmt: skip
        assert [text.get_text() for text in share.get_xticklabels()] == ["8", "16"]
        assert "eps 16" in classification.get_title()
        for axes, course in ((classification, [3, 0]), (detection, [1.5, -1.5])):
            for line in axes.lines[:2]:
                np.testing.assert_allclose(line.get_ydata(), np.linspace(*course, 5))


def test_the_figure_is_written(tabulated, tmp_path):
    table, adapted = tabulated
    svg, pdf = tmp_path / "adaptive.svg", tmp_path / "adaptive.pdf"
    figures.draw("adaptive", svg, pdf, {"table": table, "adapted": adapted})
    assert ">eps, pixels of 255</text>" in svg.read_text()
    assert pdf.read_bytes().startswith(b"%PDF")
    assert pdf.read_bytes().rstrip().endswith(b"%%EOF")


PLAIN = SMALL | {"detectors": SMALL["detectors"][:2]}
ON = PLAIN | {"adaptive": {"methods": ["pgd", "medoids"], "folds": [1]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["pdg"]}, r"adaptive.methods\[0\]: found 'pdg', allowed: pgd, .*did you mean `pgd`"),
        ({"detectors": ["lst"]}, "adaptive.detectors: found 'lst', allowed: lstm; did you mean `lstm`"),
        ({"detectors": ["lstm", "knn"]}, "adaptive.detectors: found 'knn', allowed: lstm"),
        ({"folds": [0, 2]}, "adaptive.folds: found 2, allowed: 0 to 1"),
        (
            {"fpr": 0.01},
            "adaptive.fpr: found 0.01, which needs 99 validation images in a fold, and 100 test images in 4 groups are 25",
        ),
        ({"eps": [256]}, r"adaptive.eps\[0\]: found 256, expected at most 255"),
    ],
)
def test_what_cannot_be_attacked_is_an_error_of_the_configuration(change, message):
    config.load(ON)
    with pytest.raises(ConfigError, match=message):
        config.load({**ON, "adaptive": ON["adaptive"] | change})


def test_without_a_detector_that_has_a_gradient_there_is_nothing_to_attack():
    only = {"detectors": PLAIN["detectors"][1:]}
    config.load(PLAIN | {"adaptive": {"methods": []}} | only)
    with pytest.raises(
        ConfigError, match=r"adaptive.methods: found \['pgd', 'medoids'\], which need a detector"
    ):
        config.load(ON | only)


def test_every_method_that_can_be_asked_for_is_there():
    assert set(get_args(Method)) == set(METHODS)


@pytest.mark.slow
def test_the_workflow_attacks_the_detector_where_it_is_asked_to(tmp_path):
    ran = Workflow(tmp_path / "on", copy.deepcopy(ON)).snakemake("--dry-run")
    assert ran.returncode == 0, ran.stdout
    for job in (
        "adaptive: attack classifier and lstm by pgd on fold 1",
        "adaptive: attack classifier and lstm by medoids on fold 1",
        "adaptive: the shares that evade the detectors",
        "figures: draw adaptive",
    ):
        assert job in ran.stdout
    assert ran.stdout.count("adaptive: attack") == 2
