import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from detour import attacks, images, store
from detour.attacks import Attack, adversarial
from detour.classifiers import Classifier
from detour.images import Digits

SIDE = 4
# Small enough that softmax does not saturate: the closed form needs the gradient's sign.
WEIGHT = np.random.default_rng(1).normal(size=(2, 3 * SIDE * SIDE)).astype(np.float32) / 10


def linear() -> Classifier:
    layer = nn.Linear(WEIGHT.shape[1], 2, bias=False)
    layer.weight.data = torch.from_numpy(WEIGHT)
    return Classifier(nn.Sequential(nn.Flatten(), layer), [0.0] * 3, [1.0] * 3).requires_grad_(False)


def entry(method: str, eps: int, **options) -> Attack:
    targeted = {} if method == "noise" else {"target": "dataset"}
    return Attack(name="a", method=method, eps=eps, **targeted, **options)


batch = st.integers(0, 2**31).map(
    lambda seed: np.random.default_rng(seed).integers(0, 256, (5, 3, SIDE, SIDE), dtype=np.uint8)
)


@settings(max_examples=40, deadline=None)
@given(
    x=batch,
    eps=st.integers(0, 255),
    steps=st.integers(1, 6),
    step=st.integers(1, 20),
    target=st.integers(0, 1),
)
def test_gradient_attacks_equal_the_closed_form_on_a_linear_model(x, eps, steps, step, target):
    """Between two classes the loss of the target falls fastest along sign(w_target - w_other)."""
    direction = np.sign(WEIGHT[target] - WEIGHT[1 - target]).reshape(3, SIDE, SIDE).astype(int)
    y, seeds = np.full(len(x), target), [0] * len(x)
    step = max(1, min(step, eps))
    for attack, length in (
        (entry("fgsm", eps), eps),
        (entry("iterative", eps, steps=steps, step=step), min(steps * step, eps)),
    ):
        found = adversarial(linear(), x, y, attack, seeds)
        np.testing.assert_array_equal(found, np.clip(x.astype(int) + length * direction, 0, 255))


@settings(max_examples=40, deadline=None)
@given(x=batch, eps=st.integers(0, 255), step=st.floats(0.3, 5), seed=st.integers(0, 99))
def test_every_stored_pixel_is_within_the_integer_budget(x, eps, step, seed):
    seeds = list(range(seed, seed + len(x)))
    for method, options in (("fgsm", {}), ("noise", {}), ("iterative", {"steps": 5, "step": min(step, eps)})):
        found = adversarial(linear(), x, np.zeros(len(x), int), entry(method, eps, **options), seeds)
        assert found.dtype == np.uint8
        assert np.abs(found.astype(int) - x).max() <= eps


def test_an_attack_that_leaves_its_budget_is_refused(monkeypatch):
    monkeypatch.setitem(attacks.METHODS, "far", lambda classifier, x, *_: x + 3 / 255)
    x = np.zeros((1, 3, SIDE, SIDE), np.uint8)
    with pytest.raises(RuntimeError, match=r"attack 'a': moved a pixel by 3, its eps is 2"):
        adversarial(linear(), x, np.zeros(1, int), entry("far", 2), [0])


def test_pixels_are_rounded_and_not_truncated(monkeypatch):
    monkeypatch.setitem(attacks.METHODS, "near", lambda classifier, x, *_: x + 0.6 / 255)
    x = np.full((1, 3, SIDE, SIDE), 7, np.uint8)
    assert (adversarial(linear(), x, np.zeros(1, int), entry("near", 1), [0]) == 8).all()


@pytest.mark.parametrize("method", ["fgsm", "iterative", "noise"])
def test_eps_0_gives_back_the_bytes(method):
    x = np.random.default_rng(0).integers(0, 256, (2, 3, SIDE, SIDE), dtype=np.uint8)
    attack = entry(method, 0, steps=2, step=1)
    np.testing.assert_array_equal(adversarial(linear(), x, np.zeros(2, int), attack, [0, 1]), x)


def test_noise_is_uniform_and_leaves_the_global_generator_alone():
    x = np.full((200, 3, SIDE, SIDE), 128, np.uint8)
    classifier = linear()
    before = torch.get_rng_state()
    found = adversarial(classifier, x, np.zeros(200, int), entry("noise", 16), list(range(200)))
    assert torch.equal(torch.get_rng_state(), before)
    moved = found.astype(int) - x
    # The two outermost values are rounded from half as wide an interval.
    counts = np.bincount(moved.ravel() + 16, minlength=33) / moved.size
    np.testing.assert_allclose(counts[1:-1], 1 / 32, atol=0.01)
    np.testing.assert_allclose(counts[[0, -1]], 1 / 64, atol=0.01)


@pytest.fixture
def originals(tmp_path, made):
    def write(n):
        path = tmp_path / f"original-{n}.zarr.zip"
        images.collect(Digits(test=n, size=32, seed=0), path, seed=0, workers=0, made=made)
        return path

    return write


def perturb(resnet, original, made, **options):
    settings = {"attack": entry("noise", 8), "seed": 0, "batch_size": 8, "device": "cpu"} | options
    out = original.with_name("perturbed.zarr.zip")
    attacks.perturb(resnet, original, out, made=made, **settings)
    return store.read(out)


@pytest.mark.parametrize(
    "attack",
    [
        entry("noise", 8),
        entry("fgsm", 16),
        Attack(name="b", method="iterative", eps=8, steps=3, step=2, target="random"),
    ],
)
def test_store_has_the_originals_rows_within_budget(resnet, originals, made, attack):
    original = store.read(path := originals(20))
    found = perturb(resnet, path, made, attack=attack)
    for name in ("label", "source"):
        np.testing.assert_array_equal(found[name][:], original[name][:])
    moved = np.abs(found["images"][:].astype(int) - original["images"][:])
    assert 0 < moved.max() <= attack.eps
    assert (moved.max((1, 2, 3)) > 0).all()
    target = found["target"][:]
    match attack.target:
        case None:
            assert (target == store.NO_TARGET).all()
        case "dataset":
            np.testing.assert_array_equal(target, original["target"][:])
        case "random":
            assert (target != original["label"][:]).all()
            assert (target != original["target"][:]).any()


def test_draws_follow_the_image_and_not_the_batch(resnet, originals, made):
    path = originals(20)
    small = perturb(resnet, path, made, batch_size=3)["images"][:]
    large = perturb(resnet, path, made, batch_size=20)["images"][:]
    np.testing.assert_array_equal(small, large)
    other = perturb(resnet, path, made, attack=Attack(name="other", method="noise", eps=8))["images"][:]
    assert (other != large).any()


def test_the_attack_fools_a_classifier_on_the_stored_bytes(resnet, originals, made):
    """A network with random weights is easily led: the iterated attack hits most targets."""
    found = perturb(resnet, originals(20), made, attack=entry("iterative", 32, steps=10, step=4))
    net = attacks.classifiers.load(resnet, torch.device("cpu"))
    predicted = net(torch.from_numpy(found["images"][:]).float() / 255).argmax(1).numpy()
    assert (predicted == found["target"][:]).mean() > 0.8
