"""Command line of the benchmarks."""

import argparse
import json
from pathlib import Path

from benchmarks import report
from benchmarks.machine import device
from benchmarks.sections import SECTIONS, measured
from benchmarks.timing import alone

HERE = Path(__file__).parent


def main() -> None:
    """Measure, print, and write results/{section}-{device}.json and RESULTS.md."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure, and render RESULTS.md.")
    parser.add_argument("sections", nargs="*", help=f"what to measure, of: {', '.join(SECTIONS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; needs --out")
    parser.add_argument(
        "--out", type=Path, help="folder of RESULTS.md and results/ (%(default)s)", default=HERE
    )
    parser.add_argument("--render", action="store_true", help="only render RESULTS.md")
    asked = parser.parse_args()
    if unknown := set(asked.sections) - set(SECTIONS):
        parser.error(f"unknown sections: {', '.join(sorted(unknown))}; known: {', '.join(SECTIONS)}")
    if asked.quick and asked.out == HERE:
        parser.error("--quick needs --out: its figures are not to take the place of measured ones")
    results = asked.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    if not asked.render:
        for name in SECTIONS:
            if name in (asked.sections or SECTIONS):
                figures = alone(measured, name, asked.quick)
                print(f"\n{name}, {figures['seconds']} s\n\n{report.tables(figures)}", flush=True)
                (results / f"{name}-{device()}.json").write_text(json.dumps(figures, indent=1) + "\n")
    report.render(asked.out)


if __name__ == "__main__":
    main()
