"""Chance: whether the classifier of a run knows its classes better than by guessing."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scipy.stats import binom

# Probability of more right guesses than this from which on they are no guesses.
LEVEL = 0.01


def warnings(rows: Iterable[Mapping[str, Any]], classes: int) -> list[str]:
    """What is wrong with the classifier, by the original images.

    Parameters
    ----------
    rows
        Of the verdicts of a run.
    classes
        Number of classes.
    """
    originals = [row for row in rows if row["set"] == "original"]
    label, predicted = ([row[name] for row in originals] for name in ("label", "before"))
    return [line for line in (guessing(label, predicted, classes), permuted(label, predicted)) if line]


def guessing(label: Sequence[int], predicted: Sequence[int], classes: int) -> str:
    """Say so if guesses are as often right as the classifier; empty if it is better.

    A guess is right with the probability 1 / classes, or that of two independent draws of a label and of a
    prediction, if this is more: one class alone may be predicted, and be most of the images.
    """
    right, n = sum(a == b for a, b in zip(label, predicted, strict=True)), len(label)
    # Of images of one class, it says nothing: they are all that a prediction can be of.
    share = max(1 / classes, _by_luck(label, predicted) if len(set(label)) > 1 else 0)
    # The probability of at least so many right guesses.
    if binom.sf(right - 1, n, share) <= LEVEL:
        return ""
    return (
        f"the classifier is right about {right} of {n} original images, and guessing among {classes} classes"
        " may be right as often: all figures are of a network that does not know its classes. It may be that"
        " the reference's folders sort in another order than the outputs of the weights, that"
        " classifier.mean, std, transform_input or the size of the images are not those of its training, or"
        " that it is trained too little or not at all"
    )


def permuted(label: Sequence[int], predicted: Sequence[int]) -> str:
    """Say so if classes are taken for each other as one name for another; empty if they are not.

    Half of the images tell which class each is taken for. Of those that are taken for another, which itself
    is taken for another, the other half of the images is counted.
    """
    halves = [list(zip(label[i::2], predicted[i::2], strict=True)) for i in (0, 1)]
    seen: dict[int, Counter[int]] = defaultdict(Counter)
    for true, found in halves[0]:
        seen[true][found] += 1
    taken = {
        true: counts.most_common(1)[0][0]
        for true, counts in seen.items()
        if 2 * counts.most_common(1)[0][1] > counts.total() > 1
    }
    moved = {a: b for a, b in taken.items() if a != b and taken.get(b, b) != b}
    pairs = [(a, b) for a, b in halves[1] if a in moved]
    agree = sum(moved[a] == b for a, b in pairs)
    by_luck = _by_luck([moved[a] for a, _ in pairs], [b for _, b in pairs]) if pairs else 1.0
    if 2 * agree <= len(pairs) or binom.sf(agree - 1, len(pairs), min(by_luck, 0.5)) > LEVEL:
        return ""
    first = ", ".join(f"{a} for {b}" for a, b in sorted(moved.items())[:3])
    return (
        f"{len(moved)} classes are taken for one another as a whole ({first}, counted from 0, in the order of"
        " the reference's folders): these probably sort in another order than the outputs of the weights, as"
        " 10 does before 2; name them so that they sort as the outputs do"
    )


def _by_luck(label: Sequence[int], predicted: Sequence[int]) -> float:
    """Probability that a label and a prediction, drawn apart from each other, are the same class."""
    labels, predictions = Counter(label), Counter(predicted)
    return sum(labels[c] * predictions[c] for c in labels) / len(label) ** 2
