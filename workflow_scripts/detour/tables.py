"""Tables that jobs read from each other: stores of one array a column, so that every column has a type.

A name is text, whatever it looks like. The CSV beside a table of the run is for people; no job reads it.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import zarr

from detour import store
from detour.artefacts import written
from detour.store import Made

ENDING = ".zarr.zip"


def write(
    path: str | Path,
    table: pd.DataFrame,
    made: Made,
    sources: Iterable[str | Path] = (),
    *,
    csv: bool = False,
) -> None:
    """Write a table.

    Parameters
    ----------
    table
        Columns of bool, int, float or text; a text that is missing becomes an empty one.
    sources
        Artefacts that it is made from.
    csv
        Whether to write the same as a CSV beside it.
    """
    with store.create(path, made, sources, columns=list(table.columns), rows=len(table)) as group:
        for name, column in table.items():
            values = column.to_numpy()
            if values.dtype.kind not in "biuf":
                values = column.fillna("").astype(str).to_numpy(dtype=object)
            kind = str if values.dtype == object else values.dtype
            array = group.create_array(
                str(name),
                shape=values.shape,
                chunks=(max(1, len(values)),),
                dtype=kind,
                compressors=store.COMPRESSOR,
            )
            array[:] = values
    if csv:
        with written(str(path).removesuffix(ENDING) + ".csv") as part:
            table.to_csv(part, index=False)


def read(path: str | Path) -> pd.DataFrame:
    """The table at `path`.

    Raises
    ------
    ValueError
        If the file is damaged, or another than its name says.
    """
    group = store.read(path)
    return pd.DataFrame({name: _values(group[name]) for name in group.attrs["columns"]})


def _values(array: zarr.Array) -> np.ndarray:
    values = array[:]
    return values if values.dtype.kind in "biuf" else values.astype(object)
