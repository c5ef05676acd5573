"""The report: one page that says what a run found, and opens anywhere without a network."""

import base64
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from detour import store
from detour.artefacts import written
from detour.config import warnings
from detour.metrics import ALL
from detour.store import ORIGINAL


def write(
    out: str | Path, *,
    template: str | Path, captions: Sequence[str | Path], figures: Sequence[str | Path],
    images: str | Path, references: Sequence[str | Path], summary: str | Path, outcomes: str | Path,
    config: dict[str, Any],
) -> None:  # fmt: skip
    """Fill the template.

    Parameters
    ----------
    captions
        Plain text, one paragraph each, named for the figure or table it is under.
    figures
        SVG files.
    images, references
        The stores of the original images and of the reference's activations.
    config
        The whole configuration of the run.
    """
    made = store.read(images)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(Path(template).read_text()).render(
        config=config,
        settings=yaml.safe_dump(config, sort_keys=False),
        captions={Path(path).stem: Path(path).read_text().strip() for path in captions},
        figures={Path(path).stem: _embedded(path) for path in figures},
        auc=_auc(pd.read_csv(summary)),
        outcomes=pd.read_csv(outcomes).to_dict("records"),
        attacks={attack["name"]: attack for attack in config["attacks"]},
        versions=dict(made.attrs["versions"]) | {"python": platform.python_version()},
        classes=len(made.attrs["classes"]),
        warnings=warnings(config),
        skipped=[problem for path in references for problem in store.read(path).attrs["skipped"]],
        original=ORIGINAL,
        all=ALL,
    )
    with written(out) as part:
        part.write_text(page)


def _embedded(path: str | Path) -> Markup:
    return Markup("data:image/svg+xml;base64," + base64.b64encode(Path(path).read_bytes()).decode())


def _auc(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """A row per detector and protocol, with the AUC of each attack as (mean, std)."""
    return [
        {
            "detector": detector,
            "protocol": protocol,
            "attacks": {row.attack: (row.auc, row.std) for row in rows.itertuples()},
        }
        for (detector, protocol), rows in summary.groupby(["detector", "protocol"], sort=False)
    ]
