from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.covariance import EmpiricalCovariance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import asked
from conftest import SMALL
from detour import (
    activations,
    attacks,
    config,
    detectors,
    distances,
    folds,
    gaussians,
    histories,
    medoids,
    neighbours,
    seeds,
    store,
    tables,
)  # fmt: skip
from detour.artefacts import TakenOverError
from detour.datasets import Labelled
from detour.detectors import layers
from detour.detectors.linear import Regression, scaling
from detour.detectors.neighbours import KNN
from detour.detectors.sequences import LSTM, MLP
from detour.detectors.versions import Run, Versions
from detour.errors import InputError
from detour.options.detectors import METHODS
from detour.store import ORIGINAL, Made

N, L, C, WIDTH = 600, 4, 3, 6
LAYERS = {"first": 4, "layer": WIDTH}
FOUND = 80


def standard_error(positives: int, negatives: int) -> float:
    """Of an AUC whose true value is 0.5 (Hanley and McNeil 1982)."""
    return float(np.sqrt((positives + negatives + 1) / (12 * positives * negatives)))


@pytest.fixture
def references(rng, write_store) -> list[Path]:
    """Two shards of whole classes."""
    label = np.sort(np.arange(FOUND) % C)
    return [
        write_store(
            f"r{i}",
            {name: rng.normal(size=(len(part), width)).astype(np.float32) for name, width in LAYERS.items()}
            | {"label": part, "logits": np.zeros((len(part), C))},
        )
        for i, part in enumerate([label[label < 2], label[label == 2]])
    ]


@pytest.fixture
def run(rng, write_store, references, made, tmp_path) -> Run:
    """Random stores in which an attack moves the last layer's distances and activations, and the logits."""
    label = np.arange(N) % C
    kinds = "distances", "activations", "neighbours", "squeezed", "preprocessed"
    sets: dict[str, dict[str, Path]] = {kind: {} for kind in kinds}
    for shift, name in enumerate(["original", "attack"]):
        values = rng.gamma(4, size=(N, L, C)).astype(np.float32)
        values[:, -1] += 4 * shift
        x = {each: rng.normal(size=(N, width)).astype(np.float32) for each, width in LAYERS.items()}
        x["layer"] += 2 * shift
        logits = 3 * rng.normal(size=(N, C)).astype(np.float32) / (1 + 2 * shift)
        known = {"predicted": rng.integers(0, C, N), "label": label, "logits": logits}
        sets["distances"][name] = write_store(f"d-{name}", {"distances": values})
        sets["activations"][name] = write_store(f"a-{name}", x | known, layers=list(LAYERS))
        noise = {by: (0.1 + 2 * shift) * rng.normal(size=(N, C)) for by in ("bits-5", "median-2")}
        without = {by: logits + moved.astype(np.float32) for by, moved in noise.items()}
        sets["squeezed"][name] = write_store(f"s-{name}", without)
        moved = rng.normal(size=(N, 2, len(LAYERS))) - 3 * shift
        sets["preprocessed"][name] = write_store(f"p-{name}", {"confidence": moved}, magnitudes=[0.357, 1])
        sets["neighbours"][name] = tmp_path / f"n-{name}.zarr.zip"
        neighbours.find(
            sets["activations"][name], references, sets["neighbours"][name], layers=list(LAYERS), k=FOUND,
            made=made,
        )  # fmt: skip
    found = {name: tmp_path / f"g-{name}.zarr.zip" for name in LAYERS}
    for name, path in found.items():
        gaussians.fit(references, path, layers=[name], made=made)
    joint = tmp_path / "joint.zarr.zip"
    gaussians.fit(references, joint, layers=list(LAYERS), made=made)
    return Run(**sets, gaussians=found, joint={"joint": joint})


# What a network gives that never varies, and what an attack that was left out does to it.
CONSTANTS = {"zero": 0.0, "tenth": 0.1, "large": 1e6}


@pytest.fixture(scope="module", params=CONSTANTS)
def still(request, tmp_path_factory) -> dict[str, Run]:
    """Stores in which nothing varies, but in the attack `other`, which is 20 higher; by what distances are measured."""
    value, folder, made = CONSTANTS[request.param], tmp_path_factory.mktemp(request.param), Made({}, "")

    def path(name: str) -> Path:
        return folder / f"{name}.zarr.zip"

    def written(name: str, arrays: dict[str, np.ndarray], **attributes) -> Path:
        with store.create(path(name), made, **attributes) as group:
            store.write(group, [arrays])
        return path(name)

    reference = {name: np.full((FOUND, width), value, np.float32) for name, width in LAYERS.items()}
    about = {"label": np.sort(np.arange(FOUND) % C), "logits": np.zeros((FOUND, C))}
    references = [written("reference", reference | about)]
    for name in LAYERS:
        gaussians.fit(references, path(f"centroid-{name}"), layers=[name], made=made)
        medoids.find(references, path(f"medoid-{name}"), layer=name, made=made)
    gaussians.fit(references, path("joint"), layers=list(LAYERS), joint=True, made=made)
    kinds = [(r, m) for r in ("medoid", "centroid") for m in ("l2", "cosine")]
    for name, shift in (("original", 0), ("attack", 0), ("other", 20)):
        x = {each: np.full((120, width), value + shift, np.float32) for each, width in LAYERS.items()}
        x |= {"predicted": np.arange(120) % C, "label": np.arange(120) % C}
        logits = {"logits": np.full((120, C), value + shift, np.float32)}
        seen = written(f"seen-{name}", x | logits, layers=list(LAYERS))
        alike = np.full((120, 1, len(LAYERS)), -float(value + shift))
        written(f"moved-{name}", {"confidence": alike}, magnitudes=[0.357])
        written(f"squeezed-{name}", {"bits-5": logits["logits"], "median-2": logits["logits"]})
        neighbours.find(seen, references, path(f"near-{name}"), layers=list(LAYERS), k=FOUND, made=made)
        for kind, metric in kinds:
            found, out = [path(f"{kind}-{layer}") for layer in LAYERS], path(f"{kind}-{metric}-{name}")
            distances.measure(seen, found, out, representative=kind, metric=metric, made=made)

    def sets(kind: str) -> dict[str, Path]:
        return {name: path(f"{kind}-{name}") for name in ("original", "attack", "other")}

    others = {"activations": sets("seen"), "neighbours": sets("near"), "joint": {"joint": path("joint")}}
    others |= {"squeezed": sets("squeezed"), "preprocessed": sets("moved")}
    others["gaussians"] = {name: path(f"centroid-{name}") for name in LAYERS}
    return {f"{r}-{m}": Run(distances=sets(f"{r}-{m}"), **others) for r, m in kinds}


def lstm(**changed) -> LSTM:
    return asked.detector(
        "lstm", **{"hidden": 16, "epochs": 15, "batch_size": 32, "lr": 0.01, "scale": "layer"} | changed
    )


TRAIN, VALIDATION, TEST = np.arange(80), np.arange(80, 100), np.arange(100, 120)


def test_rows_are_all_versions_of_the_sources(run):
    found = Versions(run, np.array([3, 7]))
    np.testing.assert_array_equal(found.source, [3, 7, 3, 7])
    np.testing.assert_array_equal(found.set, ["original"] * 2 + ["attack"] * 2)
    np.testing.assert_array_equal(found.adversarial, [False, False, True, True])
    assert found.distances.shape == (4, L, C)
    np.testing.assert_array_equal(found.distances[3], store.read(run.distances["attack"])["distances"][7])
    np.testing.assert_array_equal(
        found.activations("layer")[1], store.read(run.activations["original"])["layer"][7]
    )


def mlp(**changed) -> MLP:
    return asked.detector(
        "mlp", **{"hidden": 16, "epochs": 15, "batch_size": 32, "lr": 0.01, "scale": "layer"} | changed
    )


PERCEPTRON = {
    "layers": None, "ridge": 1e-4, "hidden": 8, "dropout": 0.1, "epochs": 5, "batch_size": 32, "lr": 0.01,
    "weight_decay": 0.01,
}  # fmt: skip
DETECTORS = {
    "lstm": lambda: lstm(),
    "lstm, standard": lambda: lstm(scale="standard"),
    "lstm, raw": lambda: lstm(scale="raw"),
    "lstm, bidirectional": lambda: lstm(bidirectional=True),
    "mlp": lambda: mlp(),
    "logistic": lambda: asked.detector("logistic", c=[0.1, 10], scale="layer"),
    "knn_distance": lambda: asked.detector("knn_distance", k=[1, 5], c=[1]),
    "mahalanobis": lambda: asked.detector("mahalanobis", c=[0.1, 10]),
    "mahalanobis, moved": lambda: asked.detector("mahalanobis", magnitude=0.357, c=[0.1, 10]),
    "lid": lambda: asked.detector("lid", batch=40, k=[5, 15], c=[1]),
    "fisher": lambda: asked.detector("fisher", layers=None, ridge=1e-4),
    "fisher_mlp": lambda: asked.detector("fisher_mlp", **PERCEPTRON),
    "max_softmax": lambda: asked.detector("max_softmax"),
    "energy": lambda: asked.detector("energy", temperature=1),
    "feature_squeezing": lambda: asked.detector("feature_squeezing"),
}
# What their numbers show of this attack, fitted on 80 images.
REACHED = {"max_softmax": 0.6, "energy": 0.6, "lid": 0.6}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_learns_what_there_is_to_learn(run, name):
    detector = DETECTORS[name]()
    history = detector.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=0)
    test = Versions(run, TEST)
    score = detector.score(test)
    assert (score.shape, score.dtype) == ((len(test.source),), np.float64)
    assert roc_auc_score(test.adversarial, score) > REACHED.get(name, 0.9)
    if isinstance(detector, LSTM | MLP):
        assert len(history) == 15
        assert history[-1]["loss"] < history[0]["loss"]


STILL = DETECTORS | {
    "lstm": lambda: lstm(epochs=2),
    "lstm, standard": lambda: lstm(epochs=2, scale="standard"),
    "lstm, raw": lambda: lstm(epochs=2, scale="raw"),
    "lstm, bidirectional": lambda: lstm(epochs=2, bidirectional=True),
    "mlp": lambda: mlp(epochs=2),
    "mlp, standard": lambda: mlp(epochs=2, scale="standard"),
    "fisher_mlp": lambda: asked.detector("fisher_mlp", **PERCEPTRON | {"epochs": 2}),
    "knn": lambda: asked.detector("knn", layer="best", k=[1, 5]),
}


def finite_and_blind(run: Run, detector) -> None:
    known = ["original", "attack"]
    history = detector.fit(Versions(run, TRAIN, known), Versions(run, VALIDATION, known), seed=0)
    scores = detectors.scored(detector, Versions(run, TEST), "a")
    assert np.isfinite(scores).all()
    # Over a deviation that is rounding alone, 20 is more than that.
    assert np.abs(scores).max() < 1e9
    assert {row["validation_auc"] for row in history} == {0.5}


@pytest.mark.parametrize("name", STILL)
def test_features_that_never_vary_give_finite_scores(still, name):
    """In training; in the test an attack moves them, which divided by a deviation of 0 would be no number."""
    finite_and_blind(still["medoid-l2"], STILL[name]())


@pytest.mark.parametrize("scale", ["layer", "standard", "raw"])
@pytest.mark.parametrize("measure", ["medoid-cosine", "centroid-l2", "centroid-cosine"])
def test_distances_that_never_vary_give_finite_scores(still, measure, scale):
    finite_and_blind(still[measure], asked.detector("logistic", c=[1], scale=scale))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_an_error_with_all_that_it_is_of(
    run, made, tmp_path, write_store, write_table, value
):
    """A metric would rank it: NaN as the highest of all."""
    logits = store.read(run.activations["attack"])["logits"][:]
    logits[110, 0] = value
    arrays = {
        name: store.read(run.activations["attack"])[name][:] for name in (*LAYERS, "predicted", "label")
    }
    broken = write_store("a-broken", arrays | {"logits": logits}, layers=list(LAYERS))
    moved = Run(activations={"original": run.activations["original"], "attack": broken})
    role = np.select([np.arange(120) < 80, np.arange(120) < 100], ["train", "validation"], "test")
    folds = write_table("folds", pd.DataFrame({"source": np.arange(120), "label": 0, "fold-0": role}))
    about = {"protocols": ["known"], "fold": 0, "seed": 3}
    mine = asked.entry("energy", "mine")
    paths = tmp_path / "model.pt", tmp_path / "history.zarr.zip"
    detectors.train(moved, folds, *paths, options=mine, made=made, **about)
    message = r"detector 'mine', fold 0, seed 3 \(known all\): 1 of 40 scores are not finite, .* source 110 in attack"
    with pytest.raises(ValueError, match=message):
        detectors.evaluate(
            moved, folds, paths[0], tmp_path / "scores.zarr.zip", name="mine", made=made, **about
        )
    assert not (tmp_path / "scores.zarr.zip").exists()


@pytest.mark.parametrize(
    "make", [lstm, mlp, lambda **o: asked.detector("fisher_mlp", **PERCEPTRON | {"weight_decay": 0.0} | o)]
)
def test_a_training_that_diverges_ends_with_what_to_do(run, make):
    detector = make(lr=1e38, epochs=3)
    with pytest.raises(ValueError, match=r"training loss of epoch \d is (nan|inf): .* smaller lr"):
        detector.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=0)


class Anything:
    """A detector of one's own that does what it is told, wrong things too."""

    def __init__(self, history: Any, state: Any = None, scores: Any = None) -> None:
        self.history, self.kept, self.scores = history, state, scores

    def fit(self, train, validation, seed):
        return self.history

    def state(self):
        return {"kept": self.kept}

    def restored(self, state):
        return self

    def score(self, versions):
        return self.scores


GOOD = [{"validation_auc": 0.9}]


@pytest.mark.parametrize(
    ("mine", "message"),
    [
        (Anything(None), r"detector 'mine', fold 0, seed 3 \(known all\): fit: found None, expected a list"),
        (Anything([]), r"fit: found \[\], expected a list with a mapping for each pass"),
        (Anything([{"auc": 1.0}]), r"fit: found \[{'auc': 1.0}\], .*`validation_auc`"),
        (Anything(GOOD, np.zeros(3)), "its state has a numpy.ndarray, expected tensors, .*tolist"),
        (Anything(GOOD, [{"a": np.float64(3)}]), "its state has a numpy.float64, expected tensors"),
        (Anything(GOOD, lambda: 1), "its state has a builtins.function, expected tensors"),
    ],
)
def test_what_a_detector_of_one_s_own_does_wrong_is_told(
    run, made, tmp_path, write_table, monkeypatch, mine, message
):
    role = np.select([np.arange(120) < 80, np.arange(120) < 100], ["train", "validation"], "test")
    folds = write_table("folds", pd.DataFrame({"source": np.arange(120), "label": 0, "fold-0": role}))
    monkeypatch.setattr(detectors, "detector", lambda options: mine)
    model = tmp_path / "model.pt"
    with pytest.raises(ValueError, match=message):
        detectors.train(
            run, folds, model, tmp_path / "history.zarr.zip", options=asked.entry("energy", "mine"), made=made,
            protocols=["known"], fold=0, seed=3,
        )  # fmt: skip
    assert not model.exists()


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        (np.zeros(3), r"ndarray of float64 \[3\]"),
        (["a"] * 40, "list of <U1"),
        (None, "NoneType of object"),
        (np.zeros((40, 1)), r"ndarray of float64 \[40, 1\]"),
    ],
)
def test_scores_that_are_not_one_number_a_version_are_told(run, scores, found):
    versions = Versions(run, TEST)
    with pytest.raises(ValueError, match=f"mine: score: found a {found}.*, expected an array of numbers"):
        detectors.scored(Anything(GOOD, scores=scores), versions, "mine")


def test_what_a_training_says_is_said_of_its_detector_fold_and_case(run, made, tmp_path, write_table):
    role = np.select([np.arange(120) < 80, np.arange(120) < 100], ["train", "validation"], "test")
    folds = write_table("folds", pd.DataFrame({"source": np.arange(120), "label": 0, "fold-0": role}))
    mine = asked.entry("mlp", "mine", hidden=4, epochs=2, batch_size=32, lr=1e38, scale="raw")
    with pytest.raises(ValueError, match=r"detector 'mine', fold 0, seed 3 \(known all\): the training loss"):
        detectors.train(
            run, folds, tmp_path / "model.pt", tmp_path / "history.zarr.zip", options=mine, protocols=["known"], fold=0,
            seed=3, made=made,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "options", "trained"), [("fisher", {}, 3), ("mlp", {"hidden": 4, "epochs": 1}, 4)]
)
def test_cases_that_know_the_same_share_a_training_that_draws_nothing(
    run, made, tmp_path, write_table, monkeypatch, method, options, trained
):
    """Both attacks of a family: the same is in training, and a detector that draws is another one all the same."""
    sets = {"original": "original", "kin": "attack", "kin_too": "attack", "stranger": "attack"}
    stores = {
        kind: {name: getattr(run, kind)[of] for name, of in sets.items()}
        for kind in ("distances", "activations")
    }
    run = Run(**stores, joint=run.joint)
    role = np.select([np.arange(120) < 80, np.arange(120) < 100], ["train", "validation"], "test")
    folds = write_table("folds", pd.DataFrame({"source": np.arange(120), "label": 0, "fold-0": role}))
    kind, fitted = type(DETECTORS[method]()), []
    fit = kind.fit
    monkeypatch.setattr(kind, "fit", lambda *args, **seed: fitted.append(args) or fit(*args, **seed))
    model, history = tmp_path / "model.pt", tmp_path / "history.zarr.zip"
    detectors.train(
        run, folds, model, history, options=asked.entry(method, "mine", **options), protocols=["known", "unknown"],
        fold=0, seed=3, made=made, families={"kin": "one", "kin_too": "one", "stranger": "other"},
        seeded=METHODS[method].seeded,
    )  # fmt: skip
    assert len(fitted) == trained
    assert tables.read(history)["case"].unique().tolist() == ["all", "kin", "kin_too", "stranger"]
    scores = [
        detectors.load(model, f"unknown {name}").score(Versions(run, TEST)) for name in ("kin", "kin_too")
    ]
    assert (scores[0] == scores[1]).all() == (method == "fisher")


def test_fisher_reads_the_decomposition_that_is_stored(run, references, made, tmp_path, monkeypatch):
    """The same scores to the last bit, and nothing is decomposed in the job."""
    train, validation, test = (Versions(run, part) for part in (TRAIN, VALIDATION, TEST))
    alone = asked.detector("fisher", layers=None, ridge=1e-4)
    alone.fit(train, validation, seed=0)
    joint = tmp_path / "stored.zarr.zip"
    gaussians.fit(references, joint, layers=list(LAYERS), joint=True, made=made)
    stored = Run(activations=run.activations, joint={"stored": joint})
    monkeypatch.setattr(gaussians, "correlations", lambda covariance: 1 / 0)
    detector = asked.detector("fisher", layers=None, ridge=1e-4)
    detector.fit(Versions(stored, TRAIN), Versions(stored, VALIDATION), seed=0)
    np.testing.assert_array_equal(detector.score(test), alone.score(test))


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_says_whether_a_seed_moves_it(run, name):
    scores = []
    for seed in (0, 1):
        detector = DETECTORS[name]()
        detector.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=seed)
        scores.append(detector.score(Versions(run, TEST)))
    assert (scores[0] != scores[1]).any() == METHODS[name.split(",")[0]].seeded


def sigmoid(v: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-v))


def last_state(x: np.ndarray, state: dict[str, np.ndarray], hidden: int, end: str = "") -> np.ndarray:
    """The recurrence written out."""
    h, c = np.zeros((2, len(x), hidden))
    bias = state[f"lstm.bias_ih_l0{end}"] + state[f"lstm.bias_hh_l0{end}"]
    for step in range(x.shape[1]):
        inputs = x[:, step] @ state[f"lstm.weight_ih_l0{end}"].T
        i, f, g, o = np.split(inputs + h @ state[f"lstm.weight_hh_l0{end}"].T + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lstm_is_the_paper_s(bidirectional):
    """Its score equals the recurrence written out, from the stored weights alone."""
    rng = np.random.default_rng(0)
    detector = lstm(hidden=5, bidirectional=bidirectional)
    detector._build(L, C)
    state = {k: v.double().numpy() for k, v in detector.state()["net"].items()}
    x = rng.normal(size=(3, L, C))
    h = last_state(x, state, 5)
    if bidirectional:
        h = np.hstack([h, last_state(x[:, ::-1], state, 5, "_reverse")])
    expected = h @ state["unit.weight"].T + state["unit.bias"]
    with torch.no_grad():
        found = detector.logits(torch.from_numpy(x).float())
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-4, atol=1e-5)


def test_mlp_is_one_hidden_layer_of_relus(run):
    detector, test = mlp(epochs=1), Versions(run, TEST)
    detector.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=0)
    train = Versions(run, TRAIN).distances.astype(np.float64)
    mean, std = (f(train, axis=(0, 2), keepdims=True) for f in (np.mean, np.std))
    x = ((test.distances - mean) / std).reshape(len(test.source), -1)
    w, b, v, a = (value.double().numpy() for value in detector.state()["net"].values())
    expected = np.maximum(x @ w.T + b, 0) @ v.T + a
    np.testing.assert_allclose(detector.score(test), expected[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["lstm, standard", "lstm, bidirectional", "mlp", "logistic"])
def test_logits_of_distances_have_a_gradient_and_are_the_score(run, name):
    detector, test = DETECTORS[name](), Versions(run, TEST)
    detector.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=0)
    x = torch.from_numpy(test.distances).requires_grad_()
    logits = detector.logits(x)
    logits.sum().backward()
    assert x.grad.abs().sum() > 0
    np.testing.assert_allclose(logits.detach(), detector.score(test), rtol=1e-4, atol=1e-5)


def test_training_is_that_of_a_data_loader(run):
    """The same batches, so the same numbers, as of the loop in any tutorial."""
    detector, train = lstm(epochs=3, scale="raw"), Versions(run, TRAIN)
    detector.fit(train, Versions(run, VALIDATION), seed=5)
    torch.manual_seed(5)
    other = lstm(scale="raw")
    other._build(L, C)
    rows = torch.utils.data.TensorDataset(
        torch.from_numpy(train.distances), torch.from_numpy(train.adversarial).float()
    )
    loader = torch.utils.data.DataLoader(rows, 32, shuffle=True)
    adam = torch.optim.Adam(other.net.parameters(), lr=0.01)
    found, validation = [], Versions(run, VALIDATION)
    for _ in range(3):
        for x, y in loader:
            adam.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(other.net(x), y).backward()
            adam.step()
        found.append(other.score(validation))
    best = max(found, key=lambda score: roc_auc_score(validation.adversarial, score))
    np.testing.assert_allclose(detector.score(validation), best, rtol=1e-5, atol=1e-6)


def test_training_ends_when_patience_does(run):
    part = Versions(run, TRAIN), Versions(run, VALIDATION)
    whole = [row["validation_auc"] for row in lstm().fit(*part, seed=0)]
    found = [row["validation_auc"] for row in lstm(patience=2).fit(*part, seed=0)]
    assert found == whole[: len(found)]
    better = [i for i in range(len(whole)) if whole[i] > max(whole[:i], default=-1)]
    ends = next((i + 3 for i in better if not {i + 1, i + 2} & set(better)), len(whole))
    assert len(found) == min(ends, len(whole))


def test_the_epoch_with_the_best_validation_auc_is_kept(run):
    detector, validation = lstm(), Versions(run, VALIDATION)
    history = detector.fit(Versions(run, TRAIN), validation, seed=0)
    best = max(epoch["validation_auc"] for epoch in history)
    assert roc_auc_score(validation.adversarial, detector.score(validation)) == best


def of_references(references: list[Path], array: str) -> np.ndarray:
    return np.concatenate([store.read(path)[array][:] for path in references])


def without_the_predicted_class(references, versions: Versions, k: int, layer: str = "layer") -> list[float]:
    """By brute force in float64."""
    x = versions.activations(layer).astype(np.float64)
    reference = of_references(references, layer).astype(np.float64)
    order = np.argsort(((x[:, None] - reference[None]) ** 2).sum(2), axis=1)[:, :k]
    label = of_references(references, "label")
    return [1 - np.mean(label[row] == p) for row, p in zip(order, versions.predicted, strict=True)]


@pytest.mark.parametrize("k", [1, 5, 80])
def test_knn_equals_brute_force(run, references, k):
    detector = asked.detector("knn", layer="layer", k=[k])
    detector.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=0)
    test = Versions(run, TEST)
    np.testing.assert_allclose(detector.score(test), without_the_predicted_class(references, test, k))


@pytest.mark.parametrize(
    ("votes", "weights"),
    [
        ("equal", "uniform"),
        ("distance", "distance"),
        ("rank", lambda distance: np.tile(1 / np.arange(1, distance.shape[1] + 1), (len(distance), 1))),
    ],
)
def test_weighted_votes_are_those_of_scikit_learn(run, references, votes, weights):
    model = KNeighborsClassifier(9, weights=weights, algorithm="brute")
    model.fit(*(of_references(references, name).astype(float) for name in ("layer", "label")))
    detector, test = asked.detector("knn", layer="layer", k=[9], votes=votes), Versions(run, TEST)
    detector.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=0)
    proba = pd.DataFrame(model.predict_proba(test.activations("layer")), columns=model.classes_.astype(int))
    share = [row.get(label, 0) for (_, row), label in zip(proba.iterrows(), test.predicted, strict=True)]
    np.testing.assert_allclose(detector.score(test), 1 - np.array(share), rtol=1e-5, atol=1e-6)


def test_of_weights_by_distance_the_same_image_alone_votes():
    agree = np.array([[True, False, True], [False, True, True]])
    distance = np.array([[0, 0, 1], [1, 2, 4]], np.float32)
    label, predicted = np.where(agree, 3, 4), np.array([3, 3])
    versions = SimpleNamespace(neighbours=lambda layer, k: (distance, label), predicted=predicted)
    detector = asked.detector("knn", k=[3], votes="distance").restored({"chosen": ("layer", 3)})
    np.testing.assert_allclose(detector.score(versions), [1 / 2, 1 - (1 / 2 + 1 / 4) / (1 + 1 / 2 + 1 / 4)])


@pytest.mark.parametrize("layer", ["layer", "best"])
def test_knn_keeps_the_number_of_neighbours_and_the_layer_with_the_best_auc(run, references, layer):
    detector, validation = asked.detector("knn", layer=layer, k=[1, 7, 30]), Versions(run, VALIDATION)
    history = detector.fit(Versions(run, TRAIN), validation, seed=0)
    found = {(row["layer"], row["k"]): row["validation_auc"] for row in history}
    truth = validation.adversarial
    expected = {
        (name, k): roc_auc_score(truth, without_the_predicted_class(references, validation, k, name))
        for name in (LAYERS if layer == "best" else [layer])
        for k in (1, 7, 30)
    }
    assert found == pytest.approx(expected)
    assert detector.chosen == max(expected, key=lambda at: expected[at])


def test_more_neighbours_than_were_looked_for_is_an_error(run):
    with pytest.raises(ValueError, match="found 81, allowed: at most 80"):
        asked.detector("knn", layer="layer", k=[3, 81]).fit(
            Versions(run, TRAIN), Versions(run, VALIDATION), seed=0
        )


def assert_is_the_regression_of(numbers, detector, run: Run, c: float) -> None:
    """The score equals scikit-learn's of numbers [m, L] that were computed otherwise."""
    train, test = Versions(run, TRAIN), Versions(run, TEST)
    np.testing.assert_allclose(detector.numbers(test), numbers(test), rtol=1e-5, atol=1e-7)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
    model.fit(numbers(train), train.adversarial)
    expected = model.decision_function(numbers(test))
    np.testing.assert_allclose(detector.score(test), expected, rtol=1e-3, atol=1e-3)


def test_knn_distance_is_that_of_the_kth_nearest(run, references):
    def numbers(versions: Versions) -> np.ndarray:
        found = [
            np.sort(cdist(versions.activations(name), of_references(references, name)), axis=1)[:, 4]
            for name in LAYERS
        ]
        return np.stack(found, axis=1)

    detector = asked.detector("knn_distance", k=[5], c=[0.5])
    detector.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=0)
    assert_is_the_regression_of(numbers, detector, run, 0.5)


def test_mahalanobis_is_that_of_lee_et_al(run, references):
    """With scikit-learn's covariance, as in their code, image by image."""
    label = of_references(references, "label")

    def numbers(versions: Versions) -> np.ndarray:
        columns = []
        for name in LAYERS:
            x = of_references(references, name).astype(np.float64)
            means = [x[label == c].mean(0) for c in range(C)]
            precision = EmpiricalCovariance().fit(x - np.stack(means)[label]).precision_
            columns.append(
                [
                    max(-(f - mean) @ precision @ (f - mean) for mean in means)
                    for f in versions.activations(name).astype(np.float64)
                ]
            )
        return np.array(columns).T

    detector = asked.detector("mahalanobis", c=[2])
    detector.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=0)
    assert_is_the_regression_of(numbers, detector, run, 2)


@pytest.mark.parametrize("damage", [0, 3])
@pytest.mark.parametrize("chosen", [None, ["layer"]])
def test_fisher_is_the_discriminant_by_solving_for_it(run, references, write_store, rng, chosen, damage):
    """Without eigenvectors: the correlations about the classes' means, their inverse, two means.

    The second time there are two controls, of which one is in training: its changes are added to the correlations.
    """
    sets = ["original", "attack"]
    if damage:
        changed = dict(run.activations)
        for name in ("known", "left out"):
            x = {layer: rng.normal(1, 1, (N, width)).astype(np.float32) for layer, width in LAYERS.items()}
            changed[name] = write_store(name, x, layers=list(LAYERS))
        run = Run(activations=changed, joint=run.joint, controls=["known", "left out"])
        sets.append("known")
    names = chosen or list(LAYERS)
    label = of_references(references, "label")
    reference = np.hstack([of_references(references, name) for name in names]).astype(np.float64)
    about = reference - np.stack([reference[label == c].mean(0) for c in range(C)])[label]
    deviation = about.std(0)
    correlations = np.corrcoef(about, rowvar=False) + 0.01 * np.eye(len(deviation))

    def standardised(versions: Versions) -> np.ndarray:
        x = np.hstack([versions.activations(name) for name in names]).astype(np.float64)
        return (x - reference.mean(0)) / deviation

    train, validation, test = (Versions(run, part, sets) for part in (TRAIN, VALIDATION, TEST))
    x = standardised(train)
    moved = x[train.adversarial].mean(0) - x[~train.adversarial].mean(0)
    for control in sets[2:]:
        change = x[train.set == control] - x[train.set == ORIGINAL]
        correlations += damage * np.mean(change[:, :, None] * change[:, None], axis=0)
    w = np.linalg.solve(correlations, moved)
    genuine = (standardised(validation) @ w)[validation.set == ORIGINAL]
    low, middle, high = np.percentile(genuine, [16, 50, 84])
    detector = asked.detector("fisher", layers=chosen, ridge=0.01, damage=damage)
    detector.fit(train, validation, seed=0)
    np.testing.assert_allclose(
        detector.score(test), 2 * (standardised(test) @ w - middle) / (high - low), rtol=1e-6
    )


def test_the_perceptron_beside_fisher_is_the_one_of_the_best_epoch_on_activations_as_they_are(run):
    detector, validation = asked.detector("fisher_mlp", **PERCEPTRON), Versions(run, VALIDATION)
    history = detector.fit(Versions(run, TRAIN), validation, seed=0)
    with torch.no_grad():
        discriminant, perceptron = detector._scores(detector._read(validation)).T.numpy()
    alone = asked.detector("fisher", layers=None, ridge=1e-4)
    assert history[0] == alone.fit(Versions(run, TRAIN), validation, seed=0)[0]
    with torch.no_grad():
        np.testing.assert_allclose(discriminant, alone._scores(alone._read(validation))[:, 0])
    # In double precision two images may change places.
    best = max(row["validation_auc"] for row in history[1:])
    assert roc_auc_score(validation.adversarial, perceptron) == pytest.approx(best, abs=0.01)


def test_activations_that_never_vary_in_the_reference_have_no_say(run, references, made, tmp_path):
    for path in references:
        assert store.read(path)["first"].shape[1] == 4
    dead = tmp_path / "dead.zarr.zip"
    joint = store.read(run.joint["joint"])
    covariance = joint["covariance"][:]
    covariance[0] = covariance[:, 0] = 0
    about = {name: joint.attrs[name] for name in ("layers", "widths")}
    with store.create(dead, made, **about) as group:
        store.write(group, [{"mean": joint["mean"][:], "size": joint["size"][:]}])
        store.write(group, [{"covariance": covariance}])
    quiet = Run(activations=run.activations, joint={"dead": dead})
    detector = asked.detector("fisher", layers=None, ridge=1e-4)
    detector.fit(Versions(quiet, TRAIN), Versions(quiet, VALIDATION), seed=0)
    weight = detector.net[0].first.weight[0]
    assert weight[0] == 0
    assert weight[1:].isfinite().all()


def test_lid_is_that_of_ma_et_al_among_originals_but_one_s_own(run):
    detector = asked.detector("lid", batch=30, k=[7], c=[1])
    detector.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=3)
    drawn = detector.sources.tolist()
    assert len(set(drawn)) == 31
    assert set(drawn) <= set(TRAIN)

    def numbers(versions: Versions) -> np.ndarray:
        found = np.empty((len(versions.source), len(LAYERS)))
        for at, name in enumerate(LAYERS):
            genuine = store.read(run.activations["original"])[name][:].astype(np.float64)
            for i, (source, f) in enumerate(zip(versions.source, versions.activations(name), strict=True)):
                others = [s for s in drawn if s != source][:30]
                r = sorted(np.sqrt(((f - genuine[s]) ** 2).sum()) for s in others)
                assert len(r) == 30
                found[i, at] = -1 / np.mean([np.log(r[j] / r[6]) for j in range(7)])
        return found

    assert_is_the_regression_of(numbers, detector, run, 1)


def test_lid_of_images_that_are_the_same():
    r = np.array([[0, 1, 2], [0, 0, 0], [2, 2, 2], [1, 2, 4]], float)
    found = layers.dimension(r)
    np.testing.assert_allclose(found, [0, 0, layers.LARGEST, 3 / np.log(8)])


def test_lid_refuses_a_batch_that_cannot_be_drawn(run):
    part = Versions(run, TRAIN), Versions(run, VALIDATION)
    with pytest.raises(ValueError, match="batch: found 80, allowed: at most 79"):
        asked.detector("lid", batch=80, k=[7], c=[1]).fit(*part, seed=0)
    with pytest.raises(ValueError, match="k: found 21 in 'd', allowed: at most its batch, 20"):
        asked.detector("lid", batch=20, k=[7, 21], c=[1]).fit(*part, seed=0)


def test_a_copy_of_a_training_image_is_not_its_neighbour(run, write_store):
    """At distance 0, which no test image has: the dimension of nearly all genuine ones in training would be 0."""
    twice = np.repeat(np.arange(120), 2)
    names = [*LAYERS, "predicted", "label", "logits"]
    copied = {
        name: write_store(
            f"twice-{name}", {a: store.read(path)[a][:][twice] for a in names}, layers=list(LAYERS)
        )
        for name, path in run.activations.items()
    }
    double = Run(activations=copied)
    train, validation = Versions(double, np.arange(160)), Versions(double, np.arange(160, 200))
    detector = asked.detector("lid", batch=80, k=[7], c=[1])
    detector.fit(train, validation, seed=0)
    genuine = Versions(double, np.arange(160), ["original"])
    assert (detector.tried(genuine, [7])[7] > 0).all()


def test_the_largest_probability_keeps_its_order_where_it_is_1(run):
    """Of margins of the logits of which 1 less the probability is 0 in floats of 64 bits."""
    test = Versions(run, TEST)
    test.logits = np.zeros((len(test.source), C), np.float32)
    test.logits[:, 0] = np.where(test.adversarial, 60, 120)
    score = asked.detector("max_softmax").score(test)
    assert roc_auc_score(test.adversarial, score) == 1
    np.testing.assert_allclose(score, (C - 1) * np.exp(-test.logits[:, 0].astype(float)), rtol=1e-12)


@pytest.mark.parametrize("scale", [1, 500])
def test_confidence_by_its_formulas(run, scale):
    """Of logits that overflow, too."""
    test = Versions(run, TEST)
    test.logits = scale * test.logits
    rows = test.logits.astype(np.longdouble)
    p = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
    np.testing.assert_allclose(
        asked.detector("max_softmax").score(test), (1 - p.max(1)).astype(float), atol=1e-12
    )
    energy = -2 * np.log(np.exp(rows / 2).sum(1))
    np.testing.assert_allclose(
        asked.detector("energy", temperature=2).score(test), energy.astype(float), rtol=1e-12
    )


@pytest.mark.parametrize(("bits", "median"), [(5, 2), (8, 2), (5, 1)])
def test_feature_squeezing_is_the_largest_change_of_probabilities(run, bits, median):
    """Image by image, with torch's softmax; what leaves images as they are is not asked for."""
    test = Versions(run, TEST)
    by = [name for name, asked_for in (("bits-5", bits < 8), ("median-2", median > 1)) if asked_for]
    p = torch.from_numpy(test.logits).double().softmax(1)
    expected = []
    for i, (source, which) in enumerate(zip(test.source, test.set, strict=True)):
        rows = [torch.from_numpy(store.read(run.squeezed[which])[name][int(source)]) for name in by]
        expected.append(max(float((p[i] - row.double().softmax(0)).abs().sum()) for row in rows))
    detector = asked.detector("feature_squeezing", bits=bits, median=median)
    np.testing.assert_allclose(detector.score(test), expected, rtol=1e-9)


def test_the_regression_keeps_the_c_with_the_best_validation_auc(rng):
    y = np.arange(60) % 2 == 0
    x = rng.normal(size=(60, 20)) + 0.3 * y[:, None]
    seen, truth = (
        rng.normal(size=(200, 20)) + 0.3 * (np.arange(200) % 2 == 0)[:, None],
        np.arange(200) % 2 == 0,
    )
    regression = Regression([1e-4, 1e-2, 1, 100])
    history = regression.fit(x, y, seen, truth)
    assert [row["c"] for row in history] == regression.c
    best = max(row["validation_auc"] for row in history)
    assert roc_auc_score(truth, regression.score(seen)) == best
    assert len({row["validation_auc"] for row in history}) > 1


def test_the_regression_bears_a_number_that_never_changes(rng):
    y = np.arange(60) % 2 == 0
    x = np.hstack([np.full((60, 1), 3.0), y[:, None] + 0.1 * rng.normal(size=(60, 1))])
    regression = Regression([1])
    regression.fit(x, y, x, y)
    assert roc_auc_score(y, regression.score(x)) == 1


@pytest.mark.parametrize("scale", ["layer", "standard"])
def test_scales_are_those_of_numpy_and_bear_what_never_changes(rng, scale):
    x = rng.gamma(4, size=(50, L, C)).astype(np.float32) * np.arange(1, L + 1)[:, None]
    x[:, 1] = 7.3
    mean, std = (found.numpy() for found in scaling(torch.from_numpy(x), scale))
    axes = (0, 2) if scale == "layer" else 0
    np.testing.assert_allclose(mean, x.mean(axes, dtype=float, keepdims=True), rtol=1e-5)
    expected = x.std(axes, dtype=float, keepdims=True)
    np.testing.assert_allclose(std[:, [0, 2, 3]], expected[:, [0, 2, 3]], rtol=1e-5)
    assert (std[:, 1] == 1).all()


def test_what_never_changed_in_training_is_no_infinity_in_the_test(write_store):
    """A distance that is 0 on all training images and not on those of an attack that is not known."""
    values = np.random.default_rng(0).gamma(4, size=(2, 60, L, C)).astype(np.float32)
    values[1, :, -1] += 4
    values[:, :, 0, 0] = 0
    unseen = values[1].copy()
    unseen[:, 0, 0] = 20
    sets = {"original": values[0], "attack": values[1], "unseen": unseen}
    run = Run(distances={name: write_store(name, {"distances": rows}) for name, rows in sets.items()})
    parts = [Versions(run, rows, ["original", "attack"]) for rows in (np.arange(40), np.arange(40, 50))]
    test = Versions(run, np.arange(50, 60), ["original", "unseen"])
    for detector in (
        lstm(scale="standard"),
        mlp(scale="standard"),
        asked.detector("logistic", c=[1], scale="standard"),
    ):
        detector.fit(*parts, seed=0)
        assert np.isfinite(detector.score(test)).all()


LEARNING = {
    "lstm": {},
    "lstm, bidirectional": {"bidirectional": True},
    "mlp": {},
    "logistic": {"c": [0.1]},
}


@pytest.fixture(scope="module")
def thousand() -> tuple[SimpleNamespace, SimpleNamespace]:
    """Training and validation of 12 x 1,000 distances on the scale of those of a network trained on ImageNet.

    Means of 22 to 59 a layer; the attack moves an image away from all classes at the last layers, by half as
    much again as images differ.
    """
    rng = np.random.default_rng(0)
    adversarial = np.arange(400) % 2 == 1
    image, medoid = rng.normal(size=(400, 12, 1)), rng.normal(size=(1, 12, 1000))
    image[adversarial, -4:] += 1.5
    mean = np.linspace(22, 59, 12)[:, None]
    values = mean * (1 + 0.1 * image + 0.15 * medoid + 0.05 * rng.normal(size=(400, 12, 1000)))
    parts = (
        SimpleNamespace(distances=values[rows].astype(np.float32), adversarial=adversarial[rows])
        for rows in (slice(300), slice(300, None))
    )
    return tuple(parts)


@pytest.mark.parametrize("name", LEARNING)
def test_the_defaults_learn_at_a_thousand_classes(thousand, name):
    history = trained_by_default(thousand, name, {})
    assert not histories.failure(history), history
    assert max(row["validation_auc"] for row in history) > 0.9


@pytest.mark.parametrize("name", ["lstm", "lstm, bidirectional"])
def test_raw_distances_of_a_thousand_classes_teach_nothing_and_it_is_said(thousand, name):
    """So that the test above can fail."""
    history = trained_by_default(thousand, name, {"scale": "raw"})
    assert "its validation AUC is 0.5" in histories.failure(history)


def trained_by_default(parts, name: str, changed: dict) -> list[dict]:
    """Five epochs with the options that a configuration without any has."""
    method = name.split(",")[0]
    entry = {"name": "d", "method": method, **LEARNING[name], **changed}
    (filled,) = config.load(SMALL | {"detectors": [entry], "adaptive": {}}).detectors
    few = filled.model_copy(update={"epochs": 5})
    train, validation = parts
    counts = [int((validation.adversarial == which).sum()) for which in (False, True)]
    history = detectors.detector(few).fit(train, validation, seed=0)
    return [row | {"guessed_auc": histories.guessed_auc(*counts)} for row in history]


TRAINING = {"epochs": 2, "batch_size": 32, "lr": 0.01}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("lstm", {"hidden": 8, "scale": "layer", **TRAINING}),
        ("lstm", {"hidden": 8, "scale": "raw", "bidirectional": True, "weight_decay": 0.1, **TRAINING}),
        ("mlp", {"hidden": 8, "scale": "standard", "patience": 1, **TRAINING}),
        ("logistic", {"c": [0.1, 1], "scale": "layer"}),
        ("knn", {"layer": "layer", "k": [3, 9]}),
        ("knn", {"layer": "best", "k": [3, 9]}),
        ("knn_distance", {"k": [3, 9], "c": [1]}),
        ("mahalanobis", {"c": [1]}),
        ("mahalanobis", {"magnitude": 1.0, "c": [1]}),
        ("lid", {"batch": 20, "k": [3, 9], "c": [1]}),
        ("fisher", {"layers": ["layer"], "ridge": 0.01}),
        ("fisher_mlp", PERCEPTRON),
        ("max_softmax", {}),
        ("energy", {"temperature": 1}),
        ("feature_squeezing", {"bits": 8}),
    ],
)
def test_a_trained_detector_comes_back_from_its_file(run, made, tmp_path, write_table, method, options):
    table = pd.DataFrame({"source": np.arange(120), "fold-0": "train"})
    table.loc[VALIDATION, "fold-0"], table.loc[TEST, "fold-0"] = "validation", "test"
    folds = write_table("folds", table)
    model, history, scores = (tmp_path / name for name in ("model.pt", "history.zarr.zip", "scores.zarr.zip"))
    entry = asked.entry(method, **options)
    job = {"options": entry, "protocols": ["known"], "fold": 0, "seed": 0}
    detectors.train(run, folds, model, history, made=made, **job)
    detectors.evaluate(run, folds, model, scores, name="d", protocols=["known"], seed=0, fold=0, made=made)
    found = tables.read(scores)
    found = found[found["role"] == "test"]
    assert list(found["source"]) == [*TEST, *TEST]
    assert list(found["adversarial"]) == [0] * len(TEST) + [1] * len(TEST)
    fitted = detectors.detector(entry)
    drawn = int(seeds.draw(0, "known all", 0).integers(2**31))
    fitted.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=drawn)
    np.testing.assert_allclose(found["score"], fitted.score(Versions(run, TEST)), rtol=1e-6)


def test_a_job_that_was_begun_anew_loses_its_detector_to_the_later_start(
    run, made, tmp_path, monkeypatch, write_table
):
    folds = write_table("folds", pd.DataFrame({"source": [0, 1], "fold-0": ["train", "validation"]}))
    paths = [folds, tmp_path / "model.pt", tmp_path / "history.zarr.zip"]
    job = {
        "protocols": ["known"],
        "fold": 0,
        "options": asked.entry("knn", layer="layer", k=[3]),
        "seed": 0,
        "made": made,
    }
    fit = KNN.fit

    def and_anew(self, *args, **kwargs):
        monkeypatch.setattr(KNN, "fit", fit)
        detectors.train(run, *paths, **job | {"options": asked.entry("knn", layer="layer", k=[9])})
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(KNN, "fit", and_anew)
    with pytest.raises(TakenOverError, match="another job took over"):
        detectors.train(run, *paths, **job)
    assert detectors.load(paths[1]).chosen == ("layer", 9)
    assert list(tables.read(paths[2])["k"]) == [9]


def five_fold_auc(run: Run, label: np.ndarray) -> tuple[float, float]:
    """Mean AUC of the LSTM over folds, and its standard error if there is nothing to learn."""
    values, errors = [], []
    roles = folds.folds(label, 5, stratify=True, seed=0)
    for k in range(5):
        train, validation, test = (Versions(run, np.flatnonzero(roles[:, k] == role)) for role in folds.ROLES)
        detector = lstm()
        detector.fit(train, validation, seed=k)
        values.append(roc_auc_score(test.adversarial, detector.score(test)))
        errors.append(standard_error(int(test.adversarial.sum()), int((~test.adversarial).sum())))
    return float(np.mean(values)), float(np.sqrt(np.mean(np.square(errors)) / 5))


def test_two_clean_sets_give_chance_through_the_attack_s_write_path(resnet, made, tmp_path):
    """Other clean images, sent through an attack of eps 0, are no more adversarial than the originals."""
    dataset = asked.digits(test=1200, size=32)
    everything = dataset.test_images()
    halves = [
        Labelled(torch.utils.data.Subset(everything.images, range(i, 1200, 2)), everything.label[i::2], [])
        for i in range(2)
    ]
    paths = {name: {} for name in ("images", "activations", "distances")}

    def place(stage: str, name: str) -> Path:
        paths[stage][name] = tmp_path / f"{stage}-{name}.zarr.zip"
        return paths[stage][name]

    options = {"batch_size": 100, "device": "cpu", "made": made}
    layers = ["maxpool", "layer2.1", "layer4.1"]
    reference = tmp_path / "reference.zarr.zip"
    activations.extract_reference(
        resnet, dataset, reference, number=0, count=1, layers=layers, workers=0, **options
    )
    found = [tmp_path / f"{layer}.zarr.zip" for layer in layers]
    for layer, path in zip(layers, found, strict=True):
        medoids.find([reference], path, layer=layer, made=made)
    for name, half in zip(["original", "control"], halves, strict=True):
        stored = tmp_path / f"clean-{name}.zarr.zip"
        with store.create(stored, made, classes=dataset.classes) as group:
            n = len(half.label)
            rows = np.stack([half.images[i][0].numpy() for i in range(n)])
            source = np.arange(n)
            about = {"label": half.label, "target": half.label, "source": source, "key": source}
            store.write(group, [{"images": rows, **about}])
        control = asked.attack("noise", "control", eps=0)
        attacks.perturb(resnet, stored, place("images", name), attack=control, seed=0, **options)
        activations.extract(
            resnet, paths["images"][name], place("activations", name), layers=layers, **options
        )
        distances.measure(paths["activations"][name], found, place("distances", name), made=made)
    run = Run(paths["distances"], paths["activations"])
    auc, error = five_fold_auc(run, halves[0].label)
    assert abs(auc - 0.5) < 3 * error


def test_what_a_detector_does_not_read_is_told_by_its_name(tmp_path, made):
    """Distances have the layers and the predictions too; a set is known by any store."""
    arrays = {
        "distances": {"distances": np.zeros((3, 2, 4), np.float32), "predicted": np.arange(3)},
        "squeezed": {"bits-5": np.ones((3, 4), np.float32)},
    }
    stores = {}
    for stage, of_stage in arrays.items():
        paths = []
        for s in (ORIGINAL, "a"):
            paths.append(tmp_path / stage / f"{s}.zarr.zip")
            paths[-1].parent.mkdir(exist_ok=True)
            with store.create(paths[-1], made, layers=["stem", "block"]) as group:
                store.write(group, [of_stage])
        stores[stage] = paths
    of_distances = Versions(Run.of(distances=stores["distances"]), np.array([0, 2]))
    assert of_distances.layers == ["stem", "block"]
    assert of_distances.predicted.tolist() == [0, 2, 0, 2]
    squeezed = Versions(Run.of(squeezed=stores["squeezed"]), np.array([1]))
    assert (squeezed.sets, squeezed.run.attacks) == ([ORIGINAL, "a"], ["a"])
    assert squeezed.squeezed("bits", 5).shape == (2, 4)
    for stage, ask in (
        ("activations", lambda: of_distances.activations("stem")),
        ("activations", lambda: of_distances.logits),
        ("activations", lambda: squeezed.layers),
        ("distances", lambda: squeezed.distances),
        ("neighbours", lambda: squeezed.neighbours("stem", 1)),
        ("squeezed", lambda: of_distances.squeezed("bits", 5)),
        ("preprocessed", lambda: squeezed.preprocessed(1)),
        ("gaussians", lambda: squeezed.gaussian("stem")),
    ):
        with pytest.raises(
            InputError, match=f"asks for {stage}, which it does not read; add '{stage}' to its `reads`"
        ):
            ask()
