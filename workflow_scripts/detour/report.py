"""The report: one page that says what a run found, and opens anywhere without a network."""

import base64
import logging
import platform
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import pandas as pd
import yaml
from markupsafe import Markup

from detour import calibrated, chance, findings, folders, pages, store, tables, tabulated
from detour.artefacts import written
from detour.config import warnings
from detour.errors import InputError
from detour.histories import warnings as unlearned
from detour.metrics import FEW, unsure
from detour.options.run import Run

logger = logging.getLogger(__name__)


def write(
    out: str | Path, *,
    template: str | Path, captions: Sequence[str | Path], figures: Sequence[str | Path],
    images: str | Path, references: Sequence[str | Path], verdicts: str | Path, outcomes: str | Path,
    scores: str | Path, histories: str | Path, metrics: str | Path, summary: str | Path, run: Run,
    made: Mapping[str, str], adaptive: str | Path | None = None, notes: Sequence[str] = (),
) -> None:  # fmt: skip
    """Fill the template and the captions, which leave out what the run does not have.

    Parameters
    ----------
    captions
        Templates of plain text, one paragraph each, named for the figure or table it is under.
    figures
        SVG files.
    images, references
        The stores of the original images and of the reference's activations.
    run
        The options of the run.
    made
        How it was made, see `detour.provenance.recalled`.
    adaptive
        Table of the attacks on detectors, if there are any.
    notes
        What else to say at its top.
    """
    evasion = [adaptive] if adaptive else []
    store.lineage([images, *references, outcomes, scores, histories, metrics, summary, *evasion])
    original = store.read(images)
    judged, measured = tables.read(outcomes), tables.read(metrics)
    read = [store.read(path).attrs for path in references]
    turned = [name for attrs in (original.attrs, *read) for name in attrs["turned"]]
    about = ((folders.copies_note, original.attrs["copies"]), (folders.orientation_note, turned))
    seen = [note(names) for note, names in about if names]
    counted = tables.read(summary)
    judgements = tables.read(verdicts)
    guessed = chance.warnings(judgements.to_dict("records"), len(original.attrs["classes"]))
    for line in guessed:
        # The workflow says it at its end.
        logger.info("warning: %s", line)
    base_rate = odds(run.metrics.base_rate)
    # Of a caption, what is of this run; it is plain text until it stands in the page.
    told = pages.environment(escaped=False)
    about_it = {"base_rate": base_rate, "has": _has(run, judged, measured)}
    rates = calibrated.lacking(measured, run.metrics.fpr) if "known" in run.protocols else []
    # Of some runs there are millions of scores, which are read for nothing else.
    more = (
        [calibrated.flagged(tables.read(scores), judgements, rates, run.metrics.base_rate)] if rates else []
    )
    together = pd.concat([measured.dropna(subset="value"), *more])
    page = (
        pages.environment()
        .from_string(Path(template).read_text("utf-8"))
        .render(
            style=pages.STYLE,
            config=run,
            base_rate=base_rate,
            settings=yaml.safe_dump(
                run.model_dump(exclude={"dask", "compare"}), sort_keys=False, allow_unicode=True
            ),
            captions={
                Path(path).stem: told.from_string(Path(path).read_text("utf-8").strip()).render(**about_it)
                for path in captions
            },
            figures={Path(path).stem: _embedded(path) for path in figures},
            tables=tabulated,
            trained={detector.name: detector.controls for detector in run.detectors},
            measured=measured,
            outcomes=judged,
            summary=counted,
            found=findings.sentences(counted, measured, tables.read(adaptive) if adaptive else None, run),
            lacking=rates,
            together=together,
            thresholds_together=[rate for rate in rates if f"fpr@{rate}" in set(together["measure"])],
            made=made,
            versions=dict(original.attrs["versions"]) | {"python": platform.python_version()},
            classes=len(original.attrs["classes"]),
            warnings=[
                *warnings(run),
                *notes,
                *seen,
                *guessed,
                *([line] if (line := unsure(counted)) else []),
                *unlearned(tables.read(histories).to_dict("records")),
            ],
            skipped=[problem for attrs in read for problem in attrs["skipped"]],
        )
    )
    with written(out) as part:
        part.write_text(page, "utf-8")


def _has(run: Run, outcomes: pd.DataFrame, metrics: pd.DataFrame) -> set[str]:
    """What captions may speak of, as not every run has it."""
    found = {
        "noise": any(attack.control for attack in run.attacks),
        "targets": outcomes["target_hits"].notna().any(),
        "detectors": len(run.detectors) > 1,
        "adaptive": bool(run.adaptive.methods),
        "precision": run.precision != "float32",
        "few": (metrics["images"] < FEW).any(),
    }
    return {*run.protocols, *(name for name, there in found.items() if there)}


def odds(rate: float) -> str:
    """A rate in words, exactly as it was asked for: `1 in 1,000`."""
    share = Fraction(str(rate))
    return f"{share.numerator:,} in {share.denominator:,}"


def _embedded(path: str | Path) -> Markup:
    drawn, name = Path(path).read_bytes(), Path(path).stem
    if f"<dc:title>{name}</dc:title>".encode() not in drawn or not drawn.rstrip().endswith(b"</svg>"):
        raise InputError(f"{path}: is cut, or another figure than {name}; delete it and run again")
    return Markup("data:image/svg+xml;base64," + base64.b64encode(drawn).decode())
