"""What bundles flag of genuine images that no part of their run has seen: python -m benchmarks.unseen --help"""

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from detour import Detector, DetourError
from detour.metrics import wilson

RATES = (0.01, 0.05, 0.1)


def table(
    images: Path, bundles: Sequence[Path], rates: Sequence[float] = RATES, trusted: Collection[str] = ()
) -> str:
    """Shares flagged at each rate, as Markdown, with Wilson's intervals at 95 %.

    Of all folds together, which is the p-value of a bundle; of one fold's detector with its own originals
    alone, the mean over folds; and what theory allows all folds (see `bound`).
    """
    rows = []
    for path in bundles:
        detector = Detector.load(path, trusted=trusted)
        seen = detector.seen(images)
        if wrong := [name for name, error in zip(seen.names, seen.errors, strict=True) if error]:
            raise SystemExit(
                f"{images}: {len(wrong)} images cannot be decoded, the first {wrong[0]}; take them out"
            )
        about = detector.bundle.about
        name, folds, n = about["detector"]["name"], len(about["folds"]), about["calibration"]
        p = detector.p_values(seen.scores)
        each = [detector.p_values(seen.scores, fold) for fold in range(folds)]
        rows += [
            [f"{name}, all {folds} folds", *(_share(p <= rate) for rate in rates)],
            [f"{name}, one fold", *(f"{np.mean([one <= rate for one in each]):.1%}" for rate in rates)],
            [f"{name}, all folds, by theory at most", *(f"{bound(rate, n, folds):.1%}" for rate in rates)],
        ]
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
    parser = argparse.ArgumentParser(
        "python -m benchmarks.unseen", description="What bundles flag of images."
    )
    parser.add_argument("images", type=Path, help="folder of genuine images that the run has not seen")
    parser.add_argument("bundles", type=Path, nargs="+", help="results/RUN/detectors/DETECTOR/bundle")
    parser.add_argument("--trust", action="append", default=[], help="code from outside that they may run")
    asked = parser.parse_args()
    try:
        print(table(asked.images, asked.bundles, trusted=asked.trust))
    except DetourError as error:
        raise SystemExit(str(error)) from None
