import logging

import foolbox
import numpy as np
import pytest
import torch
import torchattacks
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import asked
from detour import attacks, datasets, images, methods, states, store
from detour.attacks import adversarial, gradients
from detour.attacks.batch import Batch
from detour.classifiers import Classifier
from detour.options.attacks import Attack

SIDE = 4
# Small enough that softmax does not saturate: the closed form needs the gradient's sign.
WEIGHT = np.random.default_rng(1).normal(size=(2, 3 * SIDE * SIDE)).astype(np.float32) / 10

# Every method that has a budget, in a few steps.
BUDGETED = {
    "fgsm": {},
    "iterative": {"steps": 5, "step": 1},
    "noise": {},
    "pgd": {"steps": 3, "random_start": True},
    "pgd l2": {"norm": "l2", "steps": 3, "random_start": True},
    "mifgsm": {"steps": 3, "decay": 1},
    "sparse_l1": {"norm": "l1", "steps": 3, "sparsity": 80},
    "spsa": {"steps": 2, "samples": 4, "delta": 2, "lr": 4},
}
EVERY = BUDGETED | {
    "carlini_wagner": {"steps": 10, "searches": 2, "lr": 0.1},
    "hop_skip_jump": {"steps": 2, "samples": 10},
}
DRAWING = ["noise", "pgd", "pgd l2", "spsa", "hop_skip_jump"]


def linear(weight=WEIGHT) -> Classifier:
    layer = nn.Linear(weight.shape[1], len(weight), bias=False)
    layer.weight.data = torch.from_numpy(weight)
    return Classifier(nn.Sequential(nn.Flatten(), layer), [0.0] * 3, [1.0] * 3).requires_grad_(False)


def small() -> Classifier:
    """A random network of four classes, for images of 8 x 8."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 36, 4))
    return Classifier(network, [0.5] * 3, [0.2] * 3).requires_grad_(False)


def of_network(n=12):
    """The random network, images, the classes that it sees and others."""
    net = small()
    x = np.random.default_rng(5).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)
    y = seen(net, x)
    return net, x, y, (y + 1) % 4


def seen(net, x):
    return net(torch.from_numpy(x).float() / 255).argmax(1).numpy()


def nothing(c):
    """No image to start from."""


def exemplars(net, x):
    """For each class, the first of the images that is seen as it."""
    y = seen(net, x)
    return {c: x[y.tolist().index(c)] for c in y.tolist()}


def length(found, x):
    return np.linalg.norm((found.astype(float) - x).reshape(len(x), -1), axis=1)


# What most tests leave out.
PLAIN = {"pgd": {"random_start": False}, "mifgsm": {"decay": 0}}


def entry(method: str, eps: float | None = None, target: str = "dataset", **options) -> Attack:
    method = method.removesuffix(" l2")
    return asked.attack(method, eps=eps, target=target, **PLAIN.get(method, {}) | options)


OF_NORM = {
    "linf": entry("fgsm", 2), "l2": entry("pgd", 2, norm="l2"), "l1": entry("sparse_l1", 2),
}  # fmt: skip


def every(method: str, eps: float = 8, target: str = "dataset") -> Attack:
    return entry(method, eps if method in BUDGETED else None, target, **EVERY[method])


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
    seeds, step = [0] * len(x), max(1, min(step, eps))
    # To flee the one class is to aim at the other.
    for aim, y in (("dataset", target), ("none", 1 - target)):
        for attack, length in (
            (entry("fgsm", eps, aim), eps),
            (entry("iterative", eps, aim, steps=steps, step=step), min(steps * step, eps)),
            (entry("pgd", eps, aim, steps=steps, step=step), min(steps * step, eps)),
            (entry("mifgsm", eps, aim, steps=steps, step=step, decay=1), min(steps * step, eps)),
        ):
            found = adversarial(linear(), x, np.full(len(x), y), attack, seeds)
            np.testing.assert_array_equal(found, np.clip(x.astype(int) + length * direction, 0, 255))


def floats(net, x, y, attack, seeds=None):
    """What a method finds, before it is rounded, in pixels of 255."""
    pixels = torch.from_numpy(x).float() / 255
    found = methods.loaded(attack.implementation)(
        net, Batch(pixels, torch.from_numpy(y), seeds or [0] * len(x), nothing), attack
    )
    return found.detach().numpy() * 255


@pytest.mark.parametrize(("eps", "moved"), [(10, 6), (5, 5)])
def test_pgd_in_l2_goes_along_the_gradient_of_a_linear_model(eps, moved):
    x = np.full((2, 3, SIDE, SIDE), 100, np.uint8)
    direction = (WEIGHT[1] - WEIGHT[0]).reshape(3, SIDE, SIDE)
    found = floats(linear(), x, np.ones(2, int), entry("pgd", eps, norm="l2", steps=3, step=2))
    np.testing.assert_allclose(found - x, [moved * direction / np.linalg.norm(direction)] * 2, atol=1e-4)


def test_pgd_in_l2_goes_on_where_the_gradient_is_small():
    """CleverHans takes a gradient below 1e-6 for none, and the loss is a mean over the batch."""
    net, x, y = linear(WEIGHT * 100), np.full((50, 3, SIDE, SIDE), 100, np.uint8), np.zeros(50, int)
    x += (40 * np.sign(WEIGHT[0] - WEIGHT[1]).reshape(3, SIDE, SIDE)).astype(np.int8).view(np.uint8)
    plain = projected_gradient_descent(
        net, torch.from_numpy(x).float() / 255, 20 / 255, 5 / 255, 10, 2, 0, 1,
        y=torch.from_numpy(y), rand_init=False, sanity_checks=False,
    )  # fmt: skip
    found = floats(net, x, y, entry("pgd", 20, "none", norm="l2", steps=10, step=5))
    np.testing.assert_allclose(length(found, x), 20, rtol=1e-4)
    assert length(plain.detach().numpy() * 255, x).max() < 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_a_random_start_pgd_is_cleverhans_own(norm):
    net, x, _, target = of_network()
    plain = projected_gradient_descent(
        net, torch.from_numpy(x).float() / 255, 20 / 255, 4 / 255, 8, attacks.NORMS[norm], 0, 1,
        y=torch.from_numpy(target), targeted=True, rand_init=False, sanity_checks=False,
    )  # fmt: skip
    found = floats(net, x, target, entry("pgd", 20, norm=norm, steps=8, step=4))
    np.testing.assert_allclose(found, plain.detach().numpy() * 255, atol=1e-3)


@pytest.mark.parametrize("aim", ["dataset", "none"])
def test_momentum_is_that_of_torchattacks(aim):
    net, x, y, target = of_network(40)
    reference = torchattacks.MIFGSM(net, eps=12 / 255, alpha=2 / 255, steps=8, decay=0.7)
    if aim == "dataset":
        reference.set_mode_targeted_by_label(quiet=True)
        y = target
    expected = reference(torch.from_numpy(x).float() / 255, torch.from_numpy(y)).numpy()
    found = adversarial(net, x, y, entry("mifgsm", 12, aim, steps=8, step=2, decay=0.7), [0] * len(x))
    np.testing.assert_array_equal(found, np.rint(expected * 255))
    without = adversarial(net, x, y, entry("mifgsm", 12, aim, steps=8, step=2), [0] * len(x))
    assert (without != found).any()


def test_pgd_in_l2_is_that_of_foolbox():
    net, x, _, _ = of_network()
    # Far from black and white, where foolbox cuts off after the step and not before.
    x = x // 2 + 64
    y = seen(net, x)
    reference = foolbox.attacks.L2ProjectedGradientDescentAttack(
        abs_stepsize=4 / 255, steps=8, random_start=False
    )
    pixels = torch.from_numpy(x).float() / 255
    model = foolbox.PyTorchModel(net.eval(), bounds=(0, 1), device="cpu")
    expected = reference.run(
        model, pixels, foolbox.criteria.Misclassification(torch.from_numpy(y)), epsilon=20 / 255
    )
    found = floats(net, x, y, entry("pgd", 20, "none", norm="l2", steps=8, step=4))
    np.testing.assert_allclose(found, expected.numpy() * 255, atol=1e-2)


def test_a_step_that_is_not_given_comes_from_eps():
    x, y = np.full((1, 3, SIDE, SIDE), 100, np.uint8), np.ones(1, int)
    for method, steps, moved in (("pgd", 20, 1), ("pgd", 1, 8), ("mifgsm", 16, 0.5)):
        attack = entry(method, 8, steps=steps)
        once = entry(method, 8, steps=1, step=attack.stride * 255)
        np.testing.assert_allclose(np.abs(floats(linear(), x, y, once) - x), moved, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(x=batch, eps=st.integers(1, 255), seed=st.integers(0, 99), aim=st.sampled_from(["dataset", "none"]))
def test_stored_bytes_are_within_the_budget(x, eps, seed, aim):
    """In L2 and L1 the size is the whole image's, and rounding alone would put it over."""
    seeds = list(range(seed, seed + len(x)))
    for method in BUDGETED:
        attack = every(method, eps, aim)
        found = adversarial(linear(), x, np.zeros(len(x), int), attack, seeds)
        assert found.dtype == np.uint8
        moved = np.abs(found.astype(int) - x).reshape(len(x), -1)
        match attack.budget_norm:
            case "linf":
                assert moved.max() <= eps
            case "l2":
                assert ((moved**2).sum(1) <= eps**2).all()
            case "l1":
                assert (moved.sum(1) <= eps).all()


def test_rounding_leaves_nearly_all_of_a_budget_in_l2():
    x = np.full((20, 3, 32, 32), 128, np.uint8)
    net = linear(np.random.default_rng(0).normal(size=(2, x[0].size)).astype(np.float32))
    attack = entry("pgd", 60, norm="l2", steps=3, random_start=True)
    found = adversarial(net, x, np.ones(20, int), attack, list(range(20)))
    # Rounded plainly it would be over, and truncated it would keep about half.
    assert length(np.rint(floats(net, x, np.ones(20, int), attack, list(range(20)))), x).min() > 60
    assert length(found, x).max() <= 60
    assert length(found, x).min() > 58


@pytest.mark.parametrize(("norm", "spent"), [("linf", "3"), ("l2", "20.7846"), ("l1", "144")])
def test_an_attack_that_leaves_its_budget_is_refused(monkeypatch, norm, spent):
    monkeypatch.setattr(methods, "loaded", lambda of: lambda classifier, batch, attack: batch.x + 3 / 255)
    x = np.zeros((1, 3, SIDE, SIDE), np.uint8)
    with pytest.raises(
        RuntimeError, match=rf"attack 'a': changed an image by {spent} in {norm}, its eps is 2"
    ):
        adversarial(linear(), x, np.zeros(1, int), OF_NORM[norm], [0])


def test_pixels_are_rounded_and_not_truncated(monkeypatch):
    monkeypatch.setattr(methods, "loaded", lambda of: lambda classifier, batch, attack: batch.x + 0.6 / 255)
    x = np.full((1, 3, SIDE, SIDE), 7, np.uint8)
    assert (adversarial(linear(), x, np.zeros(1, int), entry("fgsm", 1), [0]) == 8).all()


@pytest.mark.parametrize("method", BUDGETED)
def test_eps_0_gives_back_the_bytes_and_not_the_input(method):
    x = np.random.default_rng(0).integers(0, 256, (2, 3, SIDE, SIDE), dtype=np.uint8)
    found = adversarial(linear(), x, np.zeros(2, int), every(method, 0), [0, 1])
    np.testing.assert_array_equal(found, x)
    assert not np.shares_memory(found, x)


def test_noise_is_uniform():
    x = np.full((200, 3, SIDE, SIDE), 128, np.uint8)
    found = adversarial(linear(), x, np.zeros(200, int), entry("noise", 16), list(range(200)))
    moved = found.astype(int) - x
    # The two outermost values are rounded from half as wide an interval.
    counts = np.bincount(moved.ravel() + 16, minlength=33) / moved.size
    np.testing.assert_allclose(counts[1:-1], 1 / 32, atol=0.01)
    np.testing.assert_allclose(counts[[0, -1]], 1 / 64, atol=0.01)


def test_the_random_start_is_uniform_in_the_ball():
    x = torch.zeros(2000, 1, 1, 2)
    start = Batch(x, torch.zeros(2000), list(range(2000)), nothing)
    points = gradients._in_ball(start, entry("pgd", 255)).flatten(1).numpy()
    np.testing.assert_allclose(np.histogram(points, 4, (-1, 1))[0] / points.size, 1 / 4, atol=0.03)
    points = gradients._in_ball(start, entry("pgd", 255, norm="l2")).flatten(1).numpy()
    # Areas of discs go with the square of the radius; angles with nothing.
    np.testing.assert_allclose((np.linalg.norm(points, axis=1) < 0.5).mean(), 1 / 4, atol=0.03)
    np.testing.assert_allclose((points > 0).mean(0), 1 / 2, atol=0.03)


@pytest.mark.parametrize("method", EVERY)
def test_global_generators_and_the_images_are_left_as_they_were(method):
    net, x, _, target = of_network(3)
    known = exemplars(net, x)
    of_torch, of_numpy, kept = torch.get_rng_state(), np.random.get_state()[1].copy(), x.copy()  # noqa: NPY002
    adversarial(net, x, target, every(method), [7] * 3, known.get)
    assert torch.equal(torch.get_rng_state(), of_torch)
    np.testing.assert_array_equal(np.random.get_state()[1], of_numpy)  # noqa: NPY002
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("method", ["fgsm", "pgd", "mifgsm", "carlini_wagner"])
def test_a_stored_classifier_collects_no_gradients(resnet, method):
    net = attacks.classifiers.load(resnet, torch.device("cpu"))
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    adversarial(net, x, np.zeros(2, int), every(method), [0, 1])
    assert all(weight.grad is None for weight in net.parameters())


@pytest.mark.parametrize("method", DRAWING)
def test_draws_are_the_image_s_own_whatever_the_batch(method):
    net, x, _, target = of_network(6)
    known = exemplars(net, x)
    attack, seeds = every(method), list(range(6))
    together = adversarial(net, x, target, attack, seeds, known.get)
    apart = [
        adversarial(net, x[i : i + 1], target[i : i + 1], attack, seeds[i : i + 1], known.get)[0]
        for i in range(6)
    ]
    np.testing.assert_array_equal(together, apart)
    others = adversarial(net, x, target, attack, [seed + 100 for seed in seeds], known.get)
    assert (others != together).any((1, 2, 3)).all()


@pytest.mark.parametrize(
    ("method", "eps", "options"),
    [
        ("fgsm", 32, {}),
        ("iterative", 32, {"steps": 10, "step": 4}),
        ("pgd", 32, {"steps": 10, "random_start": True}),
        ("pgd", 300, {"norm": "l2", "steps": 10, "random_start": True}),
        ("mifgsm", 32, {"steps": 10, "decay": 1}),
        ("sparse_l1", 4000, {"norm": "l1", "steps": 10, "sparsity": 80}),
        ("spsa", 64, {"steps": 20, "samples": 64, "delta": 2.55, "lr": 8}),
        ("carlini_wagner", None, {"steps": 40, "searches": 5, "lr": 0.1}),
        ("hop_skip_jump", None, {"steps": 3, "samples": 30}),
    ],
)
def test_every_attack_fools_a_random_network_with_and_without_a_target(method, eps, options):
    net, x, y, target = of_network()
    known = exemplars(net, x)
    assert set(known) == set(range(4))
    away = adversarial(net, x, y, entry(method, eps, "none", **options), list(range(12)), known.get)
    assert (seen(net, away) != y).mean() > 0.8
    towards = adversarial(net, x, target, entry(method, eps, **options), list(range(12)), known.get)
    assert (seen(net, towards) == target).mean() > 0.7


@pytest.mark.parametrize("method", BUDGETED)
def test_images_lie_in_memory_as_they_like(method):
    net, x, _, target = of_network(3)
    other = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    expected, found = (adversarial(net, images, target, every(method), [0, 1, 2]) for images in (x, other))
    np.testing.assert_array_equal(found, expected)


def test_an_image_without_a_gradient_stays_as_it_is():
    x = np.random.default_rng(0).integers(0, 256, (2, 3, SIDE, SIDE), dtype=np.uint8)
    for method in ("fgsm", "iterative", "mifgsm", "sparse_l1", "carlini_wagner"):
        found = adversarial(linear(WEIGHT * 0), x, np.ones(2, int), every(method), [0, 0])
        np.testing.assert_array_equal(found, x, err_msg=method)


class Watched(Classifier):
    """Keeps what it is asked."""

    def __init__(self, weight, most):
        plain = linear(weight)
        super().__init__(plain.network, [0.0] * 3, [1.0] * 3)
        self.requires_grad_(False)
        self.asked, self.most = [], most

    def forward(self, x):
        self.asked.append(x.detach())
        assert len(self.asked) < self.most, "too many queries"
        return super().forward(x)


def test_spsa_looks_around_the_image_that_it_has():
    """CleverHans' own looks at twice the image."""
    net, x = Watched(WEIGHT, 1000), np.full((2, 3, SIDE, SIDE), 200, np.uint8)
    adversarial(net, x, np.ones(2, int), entry("spsa", 8, steps=5, samples=16, delta=2, lr=4), [0, 1])
    assert len(net.asked) == 10
    apart = (torch.cat(net.asked) * 255 - 200).abs().amax((1, 2, 3))
    assert apart.max() <= 8 + 2 + 1e-3
    # The points go with the perturbation: from its edge, they are beyond it.
    assert apart.max() > 8 + 1


def of_linear(margins):
    """Images at these distances in L2 from the boundary of the linear model, in pixels, seen as class 0."""
    w = (WEIGHT[0] - WEIGHT[1]).reshape(1, 3, SIDE, SIDE).astype(float)
    w /= np.linalg.norm(w)
    # In the middle of the range, where tanh is steep; the boundary goes through grey once this is taken off.
    grey = 128 - 128 * w.sum() * w
    x = np.rint(grey + np.array(margins, float).reshape(-1, 1, 1, 1) * w)
    assert ((x >= 0) & (x <= 255)).all()
    return x.astype(np.uint8), (x * w).sum((1, 2, 3))


CW = {"steps": 80, "searches": 5, "lr": 0.02}


def test_carlini_wagner_finds_the_nearest_bytes_across_a_plane():
    x, distances = of_linear([20, 40, 60])
    attack = entry("carlini_wagner", target="none", confidence=0, **CW)
    found = adversarial(linear(), x, np.zeros(3, int), attack, [0] * 3)
    assert (seen(linear(), found) == 1).all()
    spent = length(found, x)
    assert (spent >= distances).all()
    # Rounding 48 values costs some pixels.
    assert (spent < distances * 1.15 + 4).all()
    pgd = adversarial(linear(), x, np.zeros(3, int), entry("pgd", 90, "none", norm="l2", steps=20), [0] * 3)
    assert (seen(linear(), pgd) == 1).all()
    assert (spent < length(pgd, x)).all()


@pytest.mark.parametrize("aim", ["none", "dataset"])
def test_carlini_wagner_weighs_every_image_by_itself(aim):
    """CleverHans weighs all by the mean of the batch's constants: 24 pixels together, 41 apart."""
    net, x, y, target = of_network(6)
    y = target if aim == "dataset" else y
    attack = entry("carlini_wagner", target=aim, steps=30, searches=4, lr=0.03)
    together = adversarial(net, x, y, attack, [0] * 6)
    apart = [adversarial(net, x[i : i + 1], y[i : i + 1], attack, [0])[0] for i in range(6)]
    np.testing.assert_allclose(length(together, x), length(np.stack(apart), x), rtol=0.02)


def test_carlini_wagner_keeps_the_margin_and_what_fools_already():
    x, _ = of_linear([20, -20, -2])
    y = np.zeros(3, int)
    sure = adversarial(linear(), x, y, entry("carlini_wagner", target="none", confidence=0.2, **CW), [0] * 3)
    logits = linear()(torch.from_numpy(sure).float() / 255).numpy()
    assert (logits[:, 1] - logits[:, 0]).min() >= 0.2 - 1e-5
    plain = adversarial(linear(), x, y, entry("carlini_wagner", target="none", **CW), [0] * 3)
    assert length(sure, x)[0] > length(plain, x)[0]
    np.testing.assert_array_equal(plain[1:], x[1:])


def test_carlini_wagner_in_float16_is_not_weighed_by_the_scale_of_its_gradients():
    x, _ = of_linear([20, 60])
    half = linear()
    half.network.half()
    half.dtype = torch.float16
    attack, y = entry("carlini_wagner", target="none", steps=60, searches=2, lr=0.02), np.zeros(2, int)
    full, found = (adversarial(net, x, y, attack, [0] * 2) for net in (linear(), half))
    np.testing.assert_allclose(length(found, x), length(full, x), rtol=0.1, atol=2)


def start_from(image):
    return {1: image}.get


@pytest.mark.parametrize("aim", ["none", "dataset"])
def test_hop_skip_jump_comes_near_the_boundary_on_bytes_that_are_across(aim):
    x, distances = of_linear([10, 30, 60])
    other, _ = of_linear([-40])
    y = np.full(3, int(aim == "dataset"))
    attack = entry("hop_skip_jump", target=aim, steps=6, samples=60)
    found = adversarial(linear(), x, y, attack, [0, 1, 2], start_from(other[0]))
    assert (seen(linear(), found) == 1).all()
    assert (length(found, x) < distances * 1.3 + 6).all()


def test_hop_skip_jump_leaves_what_fools_already_or_has_no_start(caplog):
    x, _ = of_linear([-10, 10])
    attack = entry("hop_skip_jump", target="none", steps=2, samples=10)
    caplog.set_level(logging.WARNING)
    for start in (nothing, start_from(x[1])):
        found = adversarial(Watched(WEIGHT, 100), x, np.zeros(2, int), attack, [0, 1], start)
        np.testing.assert_array_equal(found, x)
        assert "a: 1 images have no reference image to start from" in caplog.text
        caplog.clear()


def test_hop_skip_jump_asks_about_one_start():
    x, _ = of_linear([10])
    other, _ = of_linear([-40])
    net = Watched(WEIGHT, 1000)
    attack = entry("hop_skip_jump", target="none", steps=1, samples=10)
    adversarial(net, x, np.zeros(1, int), attack, [0], start_from(other[0]))
    assert {len(asked) for asked in net.asked} == {1, 10}


def test_hop_skip_jump_ends_on_large_images():
    """The paper's threshold is below what float32 can tell: CleverHans bisects for ever."""
    weight = np.random.default_rng(0).normal(size=(2, 3 * 224 * 224)).astype(np.float32)
    x = np.random.default_rng(1).integers(0, 256, (2, 3, 224, 224), dtype=np.uint8)
    net = Watched(weight, 1000)
    label = seen(net, x)
    other = np.clip(
        x[0] + 60.0 * np.sign(weight[1 - label[0]] - weight[label[0]]).reshape(x[0].shape), 0, 255
    )
    attack = entry("hop_skip_jump", target="none", steps=2, samples=5)
    start = {1 - label[0]: other.astype(np.uint8)}
    found = adversarial(net, x[:1], label[:1], attack, [0], start.get)
    assert seen(net, found) != label[:1]


@pytest.fixture
def originals(tmp_path, made):
    def write(n):
        path = tmp_path / f"original-{n}.zarr.zip"
        images.collect(asked.digits(test=n, size=32), path, seed=0, workers=0, made=made)
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
        asked.attack("iterative", "b", eps=8, steps=3, step=2, target="random"),
        entry("pgd", 8, "none", steps=2, random_start=True),
    ],
)
def test_store_has_the_originals_rows_within_budget(resnet, originals, made, attack):
    original = store.read(path := originals(20))
    found = perturb(resnet, path, made, attack=attack)
    for name in ("label", "source"):
        np.testing.assert_array_equal(found[name][:], original[name][:])
    moved = np.abs(found["images"][:].astype(int) - original["images"][:])
    assert 0 < moved.max() <= attack.budget
    assert (moved.max((1, 2, 3)) > 0).all()
    target = found["target"][:]
    match attack.aim:
        case None | "none":
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
    other = perturb(resnet, path, made, attack=asked.attack("noise", "other", eps=8))["images"][:]
    assert (other != large).any()


def test_the_attack_fools_a_classifier_on_the_stored_bytes(resnet, originals, made):
    """A network with random weights is easily led: the iterated attack hits most targets."""
    found = perturb(resnet, originals(20), made, attack=entry("iterative", 32, steps=10, step=4))
    net = attacks.classifiers.load(resnet, torch.device("cpu"))
    predicted = net(torch.from_numpy(found["images"][:]).float() / 255).argmax(1).numpy()
    assert (predicted == found["target"][:]).mean() > 0.8


@pytest.mark.parametrize("method", ["sparse_l1", "carlini_wagner", "spsa", "hop_skip_jump"])
def test_slower_attacks_run_on_a_stored_classifier(resnet, originals, made, method):
    """Its memory has channels last."""
    original = store.read(path := originals(10))
    options = {"carlini_wagner": {"steps": 3}, "spsa": {"steps": 1}, "hop_skip_jump": {"steps": 1}}
    attack = every(method, 4000 if method == "sparse_l1" else 8, "random")
    attack = attack.model_copy(update=options.get(method, {}))
    found = perturb(resnet, path, made, attack=attack, dataset=asked.digits(test=10, size=32))
    np.testing.assert_array_equal(found["label"][:], original["label"][:])
    assert (found["target"][:] != original["label"][:]).all()
    moved = (found["images"][:] != original["images"][:]).any((1, 2, 3))
    assert moved.any()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The digits' network, which sees most of them right."""
    path = tmp_path_factory.mktemp("trained") / "classifier.pt"
    settings = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "classes": 10}
    attacks.classifiers.prepare(
        path, model="small_resnet", weights="DIGITS", made=store.Made({}, ""), **settings
    )
    return path


def test_hop_skip_jump_starts_from_the_reference_and_knows_no_other_test_image(
    trained, originals, made, write_store
):
    """Pixels of another test image would come from one fold into another."""
    dataset = asked.digits(test=10, size=32)
    original = store.read(path := originals(10))
    attack = entry("hop_skip_jump", target="none", steps=1, samples=10)
    together = perturb(trained, path, made, attack=attack, dataset=dataset)["images"][:]
    assert (together != original["images"][:]).any((1, 2, 3)).all()
    arrays = {name: original[name][3:4] for name in ("images", "label", "target", "source", "key")}
    alone = write_store("alone", arrays, classes=original.attrs["classes"])
    found = perturb(trained, alone, made, attack=attack, dataset=dataset)["images"][:]
    np.testing.assert_array_equal(found[0], together[3])


def test_a_start_is_the_first_reference_image_that_is_seen_as_its_class(trained, resnet):
    dataset = asked.digits(test=10, size=32)
    net = attacks.classifiers.load(trained, torch.device("cpu"))
    for c in range(10):
        images = np.stack([image.numpy() for image, _ in dataset.reference_images([c]).images])
        right = np.flatnonzero(seen(net, images[: attacks.TRIED]) == c)
        np.testing.assert_array_equal(attacks.start_of(net, dataset, "a", c), images[right[0]])
    untrained = attacks.classifiers.load(resnet, torch.device("cpu"))
    assert sum(attacks.start_of(untrained, dataset, "a", c) is None for c in range(10)) > 5


def test_an_image_that_cannot_be_decoded_is_no_start(trained):
    broken, good = "a.png: broken", (torch.full((3, 32, 32), 7, dtype=torch.uint8), 0)
    net = attacks.classifiers.load(trained, torch.device("cpu"))
    c = int(seen(net, good[0].numpy()[None])[0])

    class Reference:
        def reference_images(self, classes):
            assert classes == [c]
            return datasets.Labelled([broken, good], np.zeros(2, int), ["a.png", "b.png"])

    np.testing.assert_array_equal(attacks.start_of(net, Reference(), "a", c), good[0])


def test_images_that_a_saturated_network_leaves_as_they_are_are_told(resnet, originals, made, caplog):
    """Softmax is 1 in floats, and the gradient 0: the network would look robust."""
    state = states.load(resnet)
    for name in ("network.fc.weight", "network.fc.bias"):
        state["state"][name] *= 1e6
    saturated = resnet.with_name("saturated.pt")
    states.save(saturated, saturated, state, made)
    path = originals(10)
    caplog.set_level(logging.WARNING)
    attack = entry("fgsm", 8, "none")
    unchanged = perturb(saturated, path, made, attack=attack)["images"][:] == store.read(path)["images"][:]
    count = unchanged.all((1, 2, 3)).sum()
    # Where it is right: the gradient of a loss that is not 0 is none.
    net = attacks.classifiers.load(saturated, torch.device("cpu"))
    group = store.read(path)
    assert count == (seen(net, group["images"][:]) == group["label"][:]).sum() > 0
    assert f"a: {count} of 10 images are as they were: their gradient is 0" in caplog.text
    caplog.clear()
    perturb(resnet, path, made, attack=attack)
    perturb(resnet, path, made, attack=entry("fgsm", 0, "none"))
    assert "as they were" not in caplog.text


def test_hop_skip_jump_asks_for_its_dataset(resnet, originals, made):
    with pytest.raises(ValueError, match="attack 'a': hop_skip_jump starts from the reference"):
        perturb(resnet, originals(10), made, attack=every("hop_skip_jump"))


class Broken(nn.Module):
    """The same logits, or gradients, of which some are not numbers."""

    def __init__(self, where, value):
        super().__init__()
        self.network, self.where, self.value = small().network, where, value

    def forward(self, x):
        logits = self.network(x)
        if self.where == "logits":
            return torch.where(torch.arange(4) == 2, self.value, logits)
        if x.requires_grad:
            logits.register_hook(lambda gradient: torch.full_like(gradient, self.value))
        return logits


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["logits", "gradients"])
@pytest.mark.parametrize("method", EVERY)
def test_a_network_that_gives_what_is_not_finite_is_refused(method, where, value):
    """By every method, whatever it makes of it: signs and classes of NaN are numbers."""
    _, x, _, target = of_network(3)
    net = Classifier(Broken(where, value), [0.5] * 3, [0.2] * 3).requires_grad_(False)
    known = exemplars(small(), x)
    if method == "noise" or (where == "gradients" and method in ("spsa", "hop_skip_jump")):
        adversarial(net, x, target, every(method), [0] * 3, known.get)
    else:
        with pytest.raises(RuntimeError, match="attack 'a': the network gave .* not finite"):
            adversarial(net, x, target, every(method), [0] * 3, known.get)
    # The hooks that look are gone.
    assert not net._forward_hooks
    assert not net._forward_pre_hooks


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("attack", [*OF_NORM.values(), entry("carlini_wagner")])
def test_pixels_that_are_not_finite_are_refused_in_every_norm(monkeypatch, attack, value):
    def far(classifier, batch, attack):
        found = batch.x.clone()
        found[1, 0, 0, 0] = value
        return found

    monkeypatch.setattr(methods, "loaded", lambda of: far)
    x = np.zeros((2, 3, SIDE, SIDE), np.uint8)
    with pytest.raises(RuntimeError, match="attack 'a': .* not finite"):
        adversarial(linear(), x, np.zeros(2, int), attack, [0, 0])


@pytest.mark.parametrize("method", ["noise", "spsa"])
def test_a_broken_network_is_refused_with_the_sources_of_the_batch(originals, made, monkeypatch, method):
    """Noise does not ask it; the classes that are stored are its all the same."""
    net = linear(np.full((10, 3 * 32 * 32), np.nan, np.float32))
    monkeypatch.setattr(attacks.classifiers, "load", lambda *arguments: net)
    path = originals(10)
    with pytest.raises(RuntimeError, match=rf"{path}, sources 0 to 7: attack 'a': .* not finite"):
        perturb(path, path, made, attack=every(method))
