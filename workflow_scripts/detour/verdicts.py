"""Verdicts: the predicted class of every version of every image, and what the attacks did."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import zarr

from detour import store, tables
from detour.store import NO_TARGET, ORIGINAL, Made


def judged(images: Mapping[str, str | Path], activations: Mapping[str, str | Path]) -> pd.DataFrame:
    """The predicted class of each version of each image, from the stored bytes.

    Parameters
    ----------
    images, activations
        Stores by set.

    Returns
    -------
    DataFrame
        set, source, label, target (-1: none), before and after (the predicted classes of the original and
        of this version), right (before is the label), successful (right, and after is another class), hit
        (after is the target, and before was not), failed (right, and after is the label too), linf and l2
        (of the change, in pixels of 255), differs (the class predicted in the precision of the attack is not
        the one predicted in float32, which all other columns use).
    """
    original = store.read(images[ORIGINAL])
    before = store.read(activations[ORIGINAL])["predicted"][:]
    tables = []
    for name, path in images.items():
        stored = store.read(path)
        label, after = stored["label"][:], store.read(activations[name])["predicted"][:]
        target = np.full_like(label, NO_TARGET) if name == ORIGINAL else stored["target"][:]
        right = before == label
        linf, l2 = change(original, stored)
        tables.append(pd.DataFrame({
            "set": name, "source": stored["source"][:], "label": label, "target": target,
            "before": before, "after": after, "right": right,
            "successful": right & (after != label),
            "hit": (after == target) & (before != target),
            "failed": right & (after == label),
            "linf": linf, "l2": l2,
            # The original and controls are made without a look at the network.
            "differs": "predicted" in stored and stored["predicted"][:] != after,
        }))  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def change(original: zarr.Group, perturbed: zarr.Group) -> tuple[np.ndarray, np.ndarray]:
    """L-infinity and L2 norm of each image's perturbation, in pixels of 255.

    Returns
    -------
    int64 [n], float64 [n]
    """
    linf, l2 = [], []
    rows = original["images"].chunks[0]
    for start in range(0, original["images"].shape[0], rows):
        part = slice(start, start + rows)
        moved = perturbed["images"][part].astype(np.int64) - original["images"][part]
        linf.append(np.abs(moved).max((1, 2, 3)))
        l2.append(np.sqrt((moved**2).sum((1, 2, 3))))
    return np.concatenate(linf), np.concatenate(l2)


def outcome(verdicts: pd.DataFrame) -> pd.DataFrame:
    """What each attack did to the classifier.

    Returns
    -------
    DataFrame
        set, images, accuracy, target_hits (share predicted as the target, NaN without one), successful (share
        of the images that were right), linf (the largest), l2 (mean), differs (share).
    """
    rows = []
    for name, of_set in verdicts.groupby("set", sort=False):
        aimed = of_set[of_set["target"] != NO_TARGET]
        attacked = of_set["right"] & (name != ORIGINAL)
        rows.append({
            "set": name, "images": len(of_set), "accuracy": (of_set["after"] == of_set["label"]).mean(),
            "target_hits": (aimed["after"] == aimed["target"]).mean(),
            "successful": of_set["successful"][attacked].mean(),
            "linf": of_set["linf"].max(), "l2": of_set["l2"].mean(),
            "differs": np.nan if name == ORIGINAL else of_set["differs"].mean(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def judge(
    images: Mapping[str, str | Path], activations: Mapping[str, str | Path], *,
    verdicts: str | Path, outcomes: str | Path, made: Made,
) -> None:  # fmt: skip
    """Write the tables of `judged`, a row per version of an image, and of `outcome`, a row per set."""
    table = judged(images, activations)
    sources = [*images.values(), *activations.values()]
    for path, rows in ((verdicts, table), (outcomes, outcome(table))):
        tables.write(path, rows, made, sources, csv=True)
