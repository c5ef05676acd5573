"""Searches: attacks that look for the smallest change, or do without gradients, by CleverHans.

CleverHans 4.0.0 is called with these faults in mind:

- its draws come from torch's global generator and depend on the batch: here every image has its own;
- Carlini-Wagner: one constant, the mean of the batch's, weighs every image, so that what is found depends on
  the batch;
- SPSA: the gradient is estimated at twice the image, wherever the perturbation is;
- hop-skip-jump: an image of more than some 60,000 values is bisected for ever, as is one without a start that
  fools the model; uniform noise, its own start, often has one class only; a start without a batch of its own
  is searched once per channel; what the model misreads already is led away from the wrong class.
"""

from functools import partial

import numpy as np
import torch
from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
from cleverhans.torch.attacks.hop_skip_jump_attack import hop_skip_jump_attack
from cleverhans.torch.attacks.spsa import _compute_spsa_gradient, _margin_logit_loss, _project_perturbation
from torch import Tensor

from detour.attacks.batch import Batch, as_bytes, fools, pixels, seeded, with_gradient
from detour.classifiers import LOSS_SCALE, Classifier
from detour.logs import logger
from detour.options.attacks.searches import SPSA, CarliniWagner, HopSkipJump


def carlini_wagner(classifier: Classifier, batch: Batch, attack: CarliniWagner) -> Tensor:
    """Carlini and Wagner 2017: the least c f + |change|^2 by Adam, c by bisection, for each image.

    The classifier sees rounded pixels, and the gradient ignores the rounding, so that the result is
    adversarial as bytes. An image for which the search fails stays unchanged.
    """

    def rounding(x: Tensor) -> Tensor:
        return classifier(as_bytes(x))

    x, y = batch.x, batch.y
    weight, low, high = (x.new_full((len(x),), value) for value in (0.01, 0, torch.inf))
    best, least = x.clone(), x.new_full((len(x),), torch.inf)
    # Undo float16's gradient scale, which would change the trade-off of loss and change.
    scale = LOSS_SCALE if classifier.dtype is torch.float16 else 1
    classes = classifier(x[:1]).shape[1]
    handicap = torch.nn.functional.one_hot(y, classes) * attack.confidence * (-1 if attack.targeted else 1)
    for _ in range(attack.searches):
        weighted = weight.div(scale).view(-1, 1, 1, 1)
        found = carlini_wagner_l2(
            with_gradient(rounding, partial(torch.mul, weighted)), x, classes,
            y=y, targeted=attack.targeted, lr=attack.lr, confidence=attack.confidence,
            initial_const=1, binary_search_steps=1, max_iterations=attack.steps,
        )  # fmt: skip
        hit = fools(lambda x: rounding(x) + handicap, found, y, attack.targeted)
        spent = (as_bytes(found) - x).flatten(1).norm(dim=1)
        better = hit & (spent < least)
        best[better], least[better] = found[better], spent[better]
        low, high = torch.where(hit, low, weight), torch.where(hit, weight, high)
        weight = torch.where(high.isfinite(), (low + high) / 2, weight * 10)
    return best


def spsa(classifier: Classifier, batch: Batch, attack: SPSA) -> Tensor:
    """Uesato et al. 2018: Adam along differences of the margin between random points around the image."""
    images = zip(batch.x.split(1), batch.y.split(1), batch.seeds, strict=True)
    return torch.cat([_spsa_of(classifier, x, y, seed, attack) for x, y, seed in images])


def _spsa_of(classifier: Classifier, x: Tensor, y: Tensor, seed: int, attack: SPSA) -> Tensor:
    def loss(change: Tensor) -> Tensor:
        # High while the class is unlikely.
        margin = _margin_logit_loss(classifier(x + change), y.expand(len(change)))
        return margin if attack.targeted else -margin

    with seeded(seed, x.device), torch.no_grad():
        change = (torch.rand_like(x) * 2 - 1) * attack.radius
        _project_perturbation(change, np.inf, attack.radius, x, 0, 1)
        optimizer = torch.optim.Adam([change], attack.lr / 255)
        for _ in range(attack.steps):
            change.grad = _compute_spsa_gradient(loss, change, attack.delta / 255, attack.samples, 1)
            optimizer.step()
            _project_perturbation(change, np.inf, attack.radius, x, 0, 1)
    return x + change


def hop_skip_jump(classifier: Classifier, batch: Batch, attack: HopSkipJump) -> Tensor:
    """Chen et al. 2020, L2: along the boundary of the decision, from an image of another class.

    An image stays unchanged if it fools the classifier already, or if there is no reference image of a
    suitable class to start from; another test image would bring its pixels into folds that do not know it.
    The result lies on the boundary, where rounding decides by chance: it is pushed on until its bytes are
    across.
    """
    found, missing = batch.x.clone(), 0
    # Bisection ends at a distance that float32 can resolve.
    gamma = max(1.0, 2.0**-22 * batch.x[0].numel() ** 1.5)
    classes = range(classifier(batch.x[:1]).shape[1])
    for i, (seed, y) in enumerate(zip(batch.seeds, batch.y.split(1), strict=True)):
        image = batch.x[i : i + 1]
        hits = partial(fools, classifier, y=y, targeted=attack.targeted)
        if hits(image):
            continue
        suitable = (batch.start(c) for c in classes if (c == y.item()) == attack.targeted)
        start = next((found for found in suitable if found is not None), None)
        if start is None or not hits(other := pixels(start[None], image.device)):
            missing += 1
            continue
        with seeded(seed, image.device), torch.no_grad():
            found[i] = hop_skip_jump_attack(
                classifier, image, 2, y_target=y if attack.targeted else None, image_target=other[None],
                initial_num_evals=attack.samples, num_iterations=attack.steps, gamma=gamma, verbose=False,
            )[0]  # fmt: skip
    if missing:
        logger.warning(
            "%s: %d images have no reference image to start from and stay as they are", attack.name, missing
        )
    return _across(classifier, batch, found, attack)


def _across(classifier: Classifier, batch: Batch, found: Tensor, attack: HopSkipJump) -> Tensor:
    """The first point on the way out through `found` whose bytes fool the classifier, otherwise `found`."""
    best = found.clone()
    left = torch.ones(len(found), dtype=torch.bool, device=found.device)
    for reach in (1, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2):
        pushed = torch.lerp(batch.x, found, reach).clamp(0, 1)
        hit = left & fools(classifier, as_bytes(pushed), batch.y, attack.targeted)
        best[hit] = pushed[hit]
        left &= ~hit
    return best
