"""Libraries: attacks of torchattacks, foolbox and the Adversarial Robustness Toolbox (ART)."""

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detour import methods
from detour.attacks.batch import Batch, seeded
from detour.classifiers import Classifier
from detour.errors import InputError
from detour.options.attacks.libraries import ART, Foolbox, Library, Torchattacks


def torchattacks(classifier: Classifier, batch: Batch, attack: Torchattacks) -> Tensor:
    """float32 [b, 3, H, W]"""
    offered = {
        "eps": _eps(attack),
        "norm": {"linf": "Linf", "l2": "L2", "l1": "L1"}[attack.norm],
        "n_classes": _classes(classifier, batch),
    }
    made = _made(attack, [classifier], offered)
    if attack.targeted:
        made.set_mode_targeted_by_label(quiet=True)
    with seeded(batch.seeds[0], batch.x.device):
        return made(batch.x, batch.y)


def foolbox(classifier: Classifier, batch: Batch, attack: Foolbox) -> Tensor:
    """float32 [b, 3, H, W]"""
    from foolbox import Misclassification, PyTorchModel, TargetedMisclassification

    model = PyTorchModel(classifier, bounds=(0, 1), device=batch.x.device)
    criterion = (TargetedMisclassification if attack.targeted else Misclassification)(batch.y)
    with seeded(batch.seeds[0], batch.x.device):
        # Without a budget, the attack's own.
        _, clipped, _ = _made(attack, [], {})(model, batch.x, criterion, epsilons=_eps(attack))
    return clipped


def art(classifier: Classifier, batch: Batch, attack: ART) -> Tensor:
    """float32 [b, 3, H, W]"""
    from art.estimators.classification import PyTorchClassifier

    estimator = PyTorchClassifier(
        classifier, torch.nn.CrossEntropyLoss(), tuple(batch.x.shape[1:]), _classes(classifier, batch),
        clip_values=(0, 1), device_type="gpu" if batch.x.is_cuda else "cpu",
    )  # fmt: skip
    offered = {
        "eps": _eps(attack),
        "norm": {"linf": np.inf, "l2": 2, "l1": 1}[attack.norm],
        "targeted": attack.targeted,
        "verbose": False,
    }
    state = np.random.get_state()  # noqa: NPY002
    try:
        # ART draws from NumPy's global generator.
        np.random.seed(batch.seeds[0] % 2**32)  # noqa: NPY002
        with seeded(batch.seeds[0], batch.x.device):
            found = _made(attack, [estimator], offered).generate(batch.x.cpu().numpy(), batch.y.cpu().numpy())
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return torch.from_numpy(found).to(batch.x)


def described(attack: Library) -> dict[str, Any]:
    """Nothing: only that the library has the attack, and takes its options.

    Raises
    ------
    InputError
        If not.
    """
    _bound(attack, [] if attack.method == "foolbox" else ["classifier"], {})
    return {}


@torch.no_grad()
def _classes(classifier: Classifier, batch: Batch) -> int:
    return classifier(batch.x[:1]).shape[1]


def _eps(attack: Library) -> float | None:
    return None if attack.eps is None else attack.eps / 255


def _made(attack: Library, arguments: list[Any], offered: dict[str, Any]) -> Any:
    """The library's attack: with the options, and with those of the offered that it has arguments for."""
    return methods.loaded(attack.outside)(*arguments, **_bound(attack, arguments, offered))


def _bound(attack: Library, arguments: list[Any], offered: dict[str, Any]) -> dict[str, Any]:
    kind = methods.loaded(attack.outside)
    signature = inspect.signature(kind)
    given = {k: v for k, v in offered.items() if k in signature.parameters and v is not None} | attack.options
    try:
        signature.bind(*arguments, **given)
    except TypeError as error:
        known = ", ".join(
            name for name in signature.parameters if name not in ("model", "estimator", "classifier")
        )
        raise InputError(f"{attack.outside}: {error}; its `options` can be {known}") from None
    return given
