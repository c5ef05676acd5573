"""What needs a GPU, all of it once: `make gpu`, in 10 minutes and without a network.

The tests that are marked `gpu`, then the sections of the benchmarks that use a device, each in a process of its own
until the time is up. Sections write `results/{section}-{gpu}.json` as ever; GPU.md says what passed, what was
measured, and what could not be or was not reached.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import torch
from tabulate import tabulate

from benchmarks.machine import description, device
from benchmarks.report import tables

HERE = Path(__file__).parent
ROOT = HERE.parent
# The shortest first: what the time does not reach is then the least.
SECTIONS = ("accelerator", "decoding", "attacks", "activations")
SECONDS = 600

# What a section does without, and what is lost then.
USED = {
    "torchattacks": "a peer of the section on attacks",
    "foolbox": "a peer of the section on attacks",
    "art": "a peer of the section on attacks",
    "triton": "the compiled loop of the section on attacks",
}


def main() -> None:
    """Test and measure, print, and write GPU.md; ends with 1 if anything failed or was not reached."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description="Test and measure on a GPU.")
    parser.add_argument("--out", type=Path, help="folder of GPU.md and results/ (%(default)s)", default=HERE)
    out = parser.parse_args().out
    if problem := without():
        sys.exit(f"make gpu: {problem}")
    end = time.monotonic() + SECONDS
    out.mkdir(parents=True, exist_ok=True)
    missing = [
        f"{name} is not installed: {loss} is left out" for name, loss in USED.items() if not find_spec(name)
    ]
    if not (shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")):
        missing.append(
            "no C compiler is on the PATH: the compiled loop of the section on attacks is left out"
        )
    print("\n".join(missing), flush=True)
    passed, tested = tests(out, end)
    parts = [HEAD, "; ".join(f"{key}: {value}" for key, value in description().items()) + "."]
    parts += ["\n".join(f"- {line}" for line in missing)] if missing else []
    parts += ["## Tests", tested]
    for name in SECTIONS:
        done, text = section(name, out, end)
        passed &= done
        parts += [f"## {name.capitalize()}", text]
        # After every section, so that nothing is lost if the next is interrupted.
        (out / "GPU.md").write_text("\n\n".join(parts) + "\n")
    print(f"{'done' if passed else 'something failed or was not reached'}: see {out / 'GPU.md'}")
    sys.exit(not passed)


HEAD = """# Results of `make gpu`

Written by `python -m benchmarks.gpu` on the machine below; the method of each section is in
[RESULTS.md](RESULTS.md)."""


def without() -> str:
    """Why nothing can be run here, in one line; empty if it can."""
    if find_spec("pytest") is None:
        return "found no pytest, expected the environment of `make test`; run that once, it needs a network"
    if torch.cuda.is_available():
        return ""
    found = (
        f"torch {torch.__version__} for CUDA {torch.version.cuda}"
        if torch.version.cuda
        else (f"torch {torch.__version__} without CUDA")
    )
    remedy = (
        "check that `nvidia-smi` lists a GPU and that its driver is new enough for that CUDA"
        if torch.version.cuda
        else "install the locked one, with CUDA: remove .venv and run `make test`"
    )
    return f"found no GPU that torch can use ({found}), expected one; {remedy}"


def tests(out: Path, end: float) -> tuple[bool, str]:
    """Whether all tests that need a GPU passed, and a table of them."""
    listed = out / "gpu-tests.xml"
    listed.unlink(missing_ok=True)
    code, said = ran(["pytest", "-m", "gpu", "--junitxml", str(listed), "-p", "no:cacheprovider"], end)
    if not listed.is_file():
        return False, f"Not finished: {said}."
    rows = list(cases(listed))
    listed.unlink()
    grid = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    return code == 0, grid or "None was found."


def cases(junit: Path) -> Iterator[dict[str, str]]:
    """A row for each test of pytest's report."""
    for case in ElementTree.parse(junit).iter("testcase"):
        problem = next(
            (case.find(kind) for kind in ("failure", "error", "skipped") if case.find(kind) is not None), None
        )
        said = "" if problem is None else problem.get("message", "").split("\n")[0][:150]
        yield {
            "test": f"`{case.get('name')}`",
            "outcome": "passed" if problem is None else problem.tag,
            "seconds": f"{float(case.get('time', 0)):.1f}",
            "said": said.replace("|", "\\|"),
        }


def section(name: str, out: Path, end: float) -> tuple[bool, str]:
    """Whether a section was measured, and its tables or why not."""
    code, said = ran(["benchmarks", name, "--out", str(out)], end)
    if code != 0:
        return False, f"Not measured: {said}."
    figures = json.loads((out / "results" / f"{name}-{device()}.json").read_text())
    return True, f"In {figures['seconds']} s.\n\n{tables(figures)}"


def ran(arguments: list[str], end: float) -> tuple[int, str]:
    """Exit code of `python -m ...`, which is stopped at the end, and in words why it is not 0."""
    left = end - time.monotonic()
    if left <= 0:
        return 1, f"the {SECONDS} s were over"
    print(f"{' '.join(arguments)}: at most {left:.0f} s", flush=True)
    # A session of its own, so that workers that it started are stopped with it.
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=ROOT, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        printed, _ = process.communicate(timeout=left)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return 1, f"it was not done when the {SECONDS} s were over"
    print(printed, flush=True)
    last = printed.strip().splitlines()[-1:] or ["it printed nothing"]
    return process.returncode, f"it ended with {process.returncode}: {last[0]}"


if __name__ == "__main__":
    main()
