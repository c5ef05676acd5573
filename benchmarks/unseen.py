"""What bundles flag of genuine images that no part of their run has seen.

python -m benchmarks.unseen FOLDER results/RUN/detectors/DETECTOR/bundle...
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from detour import Detector
from detour.metrics import wilson

RATES = (0.01, 0.05, 0.1)


def table(images: Path, bundles: Sequence[Path], rates: Sequence[float] = RATES) -> str:
    """Shares flagged at each rate, as Markdown, with Wilson's intervals at 95 %.

    Of all folds together, which is the p-value of a bundle, and of one fold's detector with its own
    originals alone, the mean over folds; below, what theory allows (see `bound`).
    """
    rows = []
    for path in bundles:
        detector = Detector.load(path)
        seen = detector.seen(images)
        if wrong := [name for name, error in zip(seen.names, seen.errors, strict=True) if error]:
            raise SystemExit(f"{images}: {len(wrong)} images cannot be decoded, the first {wrong[0]}")
        of_folds = [len(genuine) for _, genuine in detector.bundle.folds()]
        p = detector.p_values(seen.scores)
        each = [detector.p_values(seen.scores, fold) for fold in range(len(of_folds))]
        name = detector.bundle.about["detector"]["name"]
        rows.append([f"{name}, all {len(of_folds)} folds", *(_share(p <= rate) for rate in rates)])
        alone = [f"{np.mean([one <= rate for one in each]):.1%}" for rate in rates]
        rows.append([f"{name}, one fold", *alone])
    rows.append([
        "theory, all folds, at most", *(f"{bound(rate, sum(of_folds), len(of_folds)):.1%}" for rate in rates)
    ])  # fmt: skip
    heads = [f"{len(seen.names)} images", *(f"at {rate:.0%}" for rate in rates)]
    return tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True)


def bound(rate: float, n: int, folds: int) -> float:
    """The largest share of genuine images with a cross-conformal p-value of at most `rate`.

    Barber et al. 2021 (Predictive inference with the jackknife+), theorem 4, over n images in folds of equal size.
    """
    return 2 * rate + min(2 * (1 - 1 / folds) / (n / folds + 1), (1 - folds / n) / (folds + 1))


def _share(flagged: np.ndarray) -> str:
    low, high = wilson(flagged.sum(), len(flagged))
    return f"{flagged.mean():.1%} [{low:.1%}, {high:.1%}]"


if __name__ == "__main__":
    print(table(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]]))
