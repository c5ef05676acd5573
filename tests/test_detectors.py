from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from detour import activations, attacks, detectors, distances, folds, medoids, seeds, store
from detour.artefacts import TakenOverError
from detour.attacks import Attack
from detour.detectors import KNN, LSTM, Run, Versions, versions
from detour.images import Digits, Labelled

N, L, C, WIDTH = 600, 4, 3, 6


def standard_error(positives: int, negatives: int) -> float:
    """Of an AUC whose true value is 0.5 (Hanley and McNeil 1982)."""
    return float(np.sqrt((positives + negatives + 1) / (12 * positives * negatives)))


@pytest.fixture
def run(rng, write_store) -> Run:
    """Random stores in which an attack moves the last layer's distances."""
    label = np.arange(N) % C
    sets: dict[str, dict[str, Path]] = {"distances": {}, "activations": {}}
    for shift, name in enumerate(["original", "attack"]):
        values = rng.gamma(4, size=(N, L, C)).astype(np.float32)
        values[:, -1] += 4 * shift
        x = rng.normal(size=(N, WIDTH)).astype(np.float32)
        predicted = rng.integers(0, C, N)
        sets["distances"][name] = write_store(f"d-{name}", {"distances": values})
        sets["activations"][name] = write_store(
            f"a-{name}", {"layer": x, "predicted": predicted, "label": label}
        )
    reference = [
        write_store(
            f"r{i}",
            {
                "layer": rng.normal(size=(40, WIDTH)).astype(np.float32),
                "label": np.sort(rng.integers(0, C, 40)),
            },
        )
        for i in range(2)
    ]
    return Run(sets["distances"], sets["activations"], reference)


def lstm(**changed) -> LSTM:
    return LSTM(**{"hidden": 16, "epochs": 15, "batch_size": 32, "lr": 0.01, "scale": "raw"} | changed)


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


@pytest.mark.parametrize("scale", ["raw", "standard"])
def test_lstm_learns_what_there_is_to_learn(run, scale):
    detector = lstm(scale=scale)
    history = detector.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=0)
    test = Versions(run, TEST)
    assert roc_auc_score(test.adversarial, detector.score(test)) > 0.9
    assert len(history) == 15
    assert history[-1]["loss"] < history[0]["loss"]


def test_lstm_is_the_paper_s():
    """Its score equals the recurrence written out, from the stored weights alone."""
    rng = np.random.default_rng(0)
    detector = lstm(hidden=5)
    detector._build(C)
    state = {k: v.double().numpy() for k, v in detector.state()["net"].items()}
    x = rng.normal(size=(3, L, C))
    h, c = np.zeros((3, 5)), np.zeros((3, 5))

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    for step in range(L):
        gates = x[:, step] @ state["lstm.weight_ih_l0"].T + h @ state["lstm.weight_hh_l0"].T
        i, f, g, o = np.split(gates + state["lstm.bias_ih_l0"] + state["lstm.bias_hh_l0"], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    expected = h @ state["unit.weight"].T + state["unit.bias"]
    with torch.no_grad():
        found = detector.net(torch.from_numpy(x).float())
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-4, atol=1e-5)


def test_the_epoch_with_the_best_validation_auc_is_kept(run):
    detector, validation = lstm(), Versions(run, VALIDATION)
    history = detector.fit(Versions(run, TRAIN), validation, seed=0)
    best = max(epoch["validation_auc"] for epoch in history)
    assert roc_auc_score(validation.adversarial, detector.score(validation)) == best


def neighbours_without_the_predicted_class(versions: Versions, k: int) -> list[float]:
    """By brute force in float64."""
    x = versions.activations("layer").astype(np.float64)
    shards = [store.read(path) for path in versions.run.references]
    reference = np.concatenate([shard["layer"][:] for shard in shards]).astype(np.float64)
    order = np.argsort(((x[:, None] - reference[None]) ** 2).sum(2), axis=1)[:, :k]
    label = np.concatenate([shard["label"][:] for shard in shards])
    return [1 - np.mean(label[row] == p) for row, p in zip(order, versions.predicted, strict=True)]


@pytest.mark.parametrize("k", [1, 5, 80])
@pytest.mark.parametrize("entries", [1, versions.ENTRIES])
def test_knn_equals_brute_force_whatever_is_in_memory_at_once(run, k, entries, monkeypatch):
    monkeypatch.setattr(versions, "ENTRIES", entries)
    detector = KNN(layer="layer", k=[k])
    detector.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=0)
    test = Versions(run, TEST)
    np.testing.assert_allclose(detector.score(test), neighbours_without_the_predicted_class(test, k))


def test_knn_keeps_the_number_of_neighbours_with_the_best_validation_auc(run):
    detector, validation = KNN(layer="layer", k=[1, 7, 30]), Versions(run, VALIDATION)
    history = detector.fit(Versions(run, TRAIN), validation, seed=0)
    found = {row["k"]: row["validation_auc"] for row in history}
    expected = {
        k: roc_auc_score(validation.adversarial, neighbours_without_the_predicted_class(validation, k))
        for k in (1, 7, 30)
    }
    assert found == pytest.approx(expected)
    assert detector.chosen == max(expected, key=lambda k: expected[k])


def test_more_neighbours_than_images_is_an_error(run):
    with pytest.raises(ValueError, match="found 81, allowed: at most 80"):
        KNN(layer="layer", k=[3, 81]).fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=0)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("lstm", {"hidden": 8, "epochs": 2, "batch_size": 32, "lr": 0.01, "scale": "standard"}),
        ("knn", {"layer": "layer", "k": [3, 9]}),
    ],
)
def test_a_trained_detector_comes_back_from_its_file(run, made, tmp_path, method, options):
    table = pd.DataFrame({"source": np.arange(120), "fold-0": "train"})
    table.loc[VALIDATION, "fold-0"], table.loc[TEST, "fold-0"] = "validation", "test"
    table.to_csv(tmp_path / "folds.csv")
    paths = tmp_path / "folds.csv", tmp_path / "model.pt"
    job = {"protocol": "known", "fold": 0, "method": method, "options": options, "seed": 0}
    detectors.train(run, *paths, tmp_path / "history.csv", made=made, **job)
    detectors.evaluate(run, *paths, tmp_path / "scores.csv", name="d", protocol="known", fold=0, seed=0)
    found = pd.read_csv(tmp_path / "scores.csv")
    found = found[found["role"] == "test"]
    assert list(found["source"]) == [*TEST, *TEST]
    assert list(found["adversarial"]) == [0] * len(TEST) + [1] * len(TEST)
    fitted = detectors.detector(method, **options)
    drawn = int(seeds.draw(0, "known all", 0).integers(2**31))
    fitted.fit(Versions(run, TRAIN), Versions(run, VALIDATION), seed=drawn)
    np.testing.assert_allclose(found["score"], fitted.score(Versions(run, TEST)), rtol=1e-6)


def test_a_job_that_was_begun_anew_loses_its_detector_to_the_later_start(run, made, tmp_path, monkeypatch):
    pd.DataFrame({"source": [0, 1], "fold-0": ["train", "validation"]}).to_csv(tmp_path / "folds.csv")
    paths = [tmp_path / name for name in ("folds.csv", "model.pt", "history.csv")]
    job = {
        "protocol": "known",
        "fold": 0,
        "method": "knn",
        "options": {"layer": "layer", "k": [3]},
        "seed": 0,
        "made": made,
    }
    fit = KNN.fit

    def and_anew(self, *args, **kwargs):
        monkeypatch.setattr(KNN, "fit", fit)
        detectors.train(run, *paths, **job | {"options": {"layer": "layer", "k": [9]}})
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(KNN, "fit", and_anew)
    with pytest.raises(TakenOverError, match="another job took over"):
        detectors.train(run, *paths, **job)
    assert detectors.load(paths[1]).chosen == 9


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
    dataset = Digits(test=1200, size=32, seed=0)
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
            store.write(
                group, [{"images": rows, "label": half.label, "target": half.label, "source": source}]
            )
        control = Attack(name="control", method="noise", eps=0)
        attacks.perturb(resnet, stored, place("images", name), attack=control, seed=0, **options)
        activations.extract(
            resnet, paths["images"][name], place("activations", name), layers=layers, **options
        )
        distances.measure(paths["activations"][name], found, place("distances", name), made=made)
    run = Run(paths["distances"], paths["activations"], [reference])
    auc, error = five_fold_auc(run, halves[0].label)
    assert abs(auc - 0.5) < 3 * error
