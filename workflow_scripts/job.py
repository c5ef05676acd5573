"""Job: what every script of a rule begins with."""

import json
import sys
from typing import Any

from detour import logs, store
from detour.store import Made


def begin(snakemake: Any) -> tuple[dict[str, Any], Made]:
    """Send the log to the job's file, and return what the job is told and how its artefacts are made.

    Jobs that compute on Dask are told its options as `dask`.
    """
    logs.to_file(snakemake.log[0])
    store.as_asked(snakemake.input, json.loads(snakemake.params.get("expected", "{}")))
    settings = json.loads(snakemake.params.get("settings", "{}"))
    threads = settings.pop("threads", None)
    made = Made(settings.copy(), snakemake.params.code, threads or snakemake.threads)
    if threads:
        # Not those that --cores leaves to the job: their number changes floats.
        sys.modules["torch"].set_num_threads(threads)
    if dask := snakemake.params.get("dask"):
        from detour.compute import Dask

        settings["dask"] = Dask(snakemake.threads, **json.loads(dask))
    return settings, made
