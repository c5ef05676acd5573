"""Folds: which source images a detector is trained, validated and tested on."""

from pathlib import Path

import numpy as np
import pandas as pd

from detour import store, tables
from detour.errors import InputError
from detour.store import Made

ROLES = ("train", "validation", "test")


def folds(
    label: np.ndarray, count: int, *, stratify: bool, seed: int, copy_of: np.ndarray | None = None
) -> np.ndarray:
    """Deal source images into 2K groups: fold k tests on group 2k, validates on 2k + 1, trains on the rest.

    So the K test parts are disjoint, and for K = 5 the shares are the paper's 80, 10 and 10 %. A fold is a
    property of the source image, so no version of a test image is in training.

    Parameters
    ----------
    label : int64 [n]
        Classes of the source images.
    count
        K, the number of folds.
    stratify
        Whether every group has the classes in equal shares; with copies, as nearly as they let it.
    copy_of : int64 [n], optional
        The same number for images that are copies of each other, which are dealt into the same group.

    Returns
    -------
    str [n, K]
        One of `ROLES`.

    Raises
    ------
    ValueError
        If there are too many copies for so many groups.
    """
    # Imported here: every job of a detector imports this module, and scikit-learn takes a second.
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    split = (StratifiedKFold if stratify else KFold)(2 * count, shuffle=True, random_state=seed).split(
        label, label
    )
    if copy_of is not None and (distinct := len(np.unique(copy_of))) < len(label):
        if distinct < 2 * count:
            raise InputError(
                f"folds.count: found {count}, which deals into {2 * count} groups, and of the {len(label)}"
                f" test images {distinct} differ; use fewer folds, or other images in place of the copies"
            )
        strata = label if stratify else np.zeros_like(label)
        split = StratifiedGroupKFold(2 * count, shuffle=True, random_state=seed).split(label, strata, copy_of)
    roles = np.full((len(label), count), "train", dtype=object)
    for group, (_, members) in enumerate(split):
        if not len(members):
            raise InputError(
                f"folds.count: found {count}, and copies among the test images leave one of {2 * count}"
                " groups empty; use fewer folds, or other images in place of the copies"
            )
        roles[members, group // 2] = "validation" if group % 2 else "test"
    return roles


def deal(images: str | Path, out: str | Path, *, count: int, stratify: str, seed: int, made: Made) -> None:
    """Write the folds of a store of images as a table: source, label, and a role in each of fold-0 ..."""
    original = store.read(images)
    label = original["label"][:]
    roles = folds(label, count, stratify=stratify == "class", seed=seed, copy_of=original["copy_of"][:])
    table = pd.DataFrame({"source": original["source"][:], "label": label})
    table[[f"fold-{k}" for k in range(count)]] = roles
    tables.write(out, table, made, [images], csv=True)


def sources(path: str | Path, fold: int, role: str) -> np.ndarray:
    """Source images that have a role in a fold.

    Returns
    -------
    int64 [m], ascending

    Raises
    ------
    ValueError
        If a source stands in the table twice, so that it could be trained and tested on.
    """
    table = tables.read(path)
    twice = table["source"][table["source"].duplicated()]
    if len(twice):
        raise InputError(
            f"{path}: source {twice.iloc[0]} stands twice, expected each once; delete it and run again"
        )
    return np.sort(table["source"][table[f"fold-{fold}"] == role].to_numpy())
