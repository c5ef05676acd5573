"""Gradients: attacks that step along the gradient of the loss, by CleverHans.

CleverHans 4.0.0 is called with these faults in mind:

- where it takes gradients, those of the network's parameters accumulate unless they are frozen, and what it
  returns still carries its graph; where `eps` is 0 it returns its input itself;
- its sanity checks fail off the CPU;
- an attack that is not told the class aims at, or away from, the one that the model sees;
- PGD: a step in L2 is no step where the gradient is small, which in a mean over the batch it soon is;
- sparse L1 descent: images whose channels come last in memory are an error; a random start is overwritten.
"""

import numpy as np
import torch
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.sparse_l1_descent import sparse_l1_descent
from cleverhans.torch.utils import clip_eta
from torch import Tensor

from detour.attacks.batch import NORMS, Batch, Model, with_gradient
from detour.classifiers import Classifier
from detour.options.attacks import Iterated
from detour.options.attacks.gradients import FGSM, MIFGSM, PGD, Iterative, SparseL1


def fgsm(classifier: Classifier, batch: Batch, attack: FGSM) -> Tensor:
    """Goodfellow et al. 2015, one step down the loss of the target, or up that of the true class."""
    return fast_gradient_method(
        classifier, batch.x, attack.radius, np.inf, 0, 1, y=batch.y, targeted=attack.targeted
    )


def iterative(classifier: Classifier, batch: Batch, attack: Iterative) -> Tensor:
    """Kurakin et al. 2016: steps of FGSM, projected onto the ball."""
    return _stepped(classifier, batch.x, batch, attack)


def pgd(classifier: Classifier, batch: Batch, attack: PGD) -> Tensor:
    """Kurakin et al. 2016 and Madry et al. 2018: steps of FGSM projected onto the ball, from within it.

    With L2 a step goes along the gradient, of length `step`. Steps that are not given are 2.5 eps / steps.
    """
    model = classifier if attack.norm == "linf" else with_gradient(classifier, _unit)
    start = (batch.x + _in_ball(batch, attack)).clamp(0, 1) if attack.random_start else batch.x
    return _stepped(model, start, batch, attack)


def mifgsm(classifier: Classifier, batch: Batch, attack: MIFGSM) -> Tensor:
    """Dong et al. 2018, eq. 6 and 7: steps along the sign of g = decay g + gradient / |gradient|_1.

    Steps that are not given are eps / steps.
    """
    momentum = torch.zeros_like(batch.x)

    def accumulated(gradient: Tensor) -> Tensor:
        nonlocal momentum
        # The mean in place of the sum scales every g by the same, and an image without a gradient gets none.
        size = gradient.abs().mean((1, 2, 3), keepdim=True)
        momentum = attack.decay * momentum + torch.where(size == 0, 0, gradient / size)
        return momentum

    return _stepped(with_gradient(classifier, accumulated), batch.x, batch, attack)


def _stepped(model: Model, found: Tensor, batch: Batch, attack: Iterated) -> Tensor:
    """CleverHans' PGD around its FGSM, from a start in the ball of each image."""
    norm, targeted = NORMS[attack.budget_norm], attack.targeted
    for _ in range(attack.steps):
        found = fast_gradient_method(model, found, attack.stride, norm, 0, 1, y=batch.y, targeted=targeted)
        found = (batch.x + clip_eta(found.detach() - batch.x, norm, attack.radius)).clamp(0, 1)
    return found


def _in_ball(batch: Batch, attack: PGD) -> Tensor:
    """A point of the ball for each image, uniform, float32 [b, 3, H, W].

    On the CPU, whose generator gives the same draws on every machine.
    """
    points = []
    for seed in batch.seeds:
        generator, shape = torch.Generator().manual_seed(seed), batch.x.shape[1:]
        if attack.norm == "linf":
            points.append(torch.rand(shape, generator=generator) * 2 - 1)
        else:
            direction = torch.randn(shape, generator=generator)
            length = torch.rand((), generator=generator) ** (1 / direction.numel())
            points.append(direction * length / direction.norm())
    return torch.stack(points).to(batch.x.device) * attack.radius


def sparse_l1(classifier: Classifier, batch: Batch, attack: SparseL1) -> Tensor:
    """Tramer and Boneh 2019: steps in L1 along the largest of the gradient that the pixels can follow."""
    return sparse_l1_descent(
        classifier, batch.x, attack.radius, attack.stride, attack.steps,
        y=batch.y, targeted=attack.targeted, clip_min=0, clip_max=1, clip_grad=True,
        grad_sparsity=float(attack.sparsity), sanity_checks=False,
    )  # fmt: skip


def _unit(gradient: Tensor) -> Tensor:
    """Each image's gradient over its largest value: CleverHans treats a norm below 1e-6 as zero."""
    size = gradient.abs().amax((1, 2, 3), keepdim=True)
    return torch.where(size == 0, 0, gradient / size)
