"""The workflow on a real SLURM of two nodes, which cancels, kills and fails while it runs."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from conftest import Workflow

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]

# Without an accounting database squeue has to tell; the rest only makes the test wait less.
PROFILE = ("--profile", "profiles/slurm", "--slurm-status-command", "squeue",
           "--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "5")  # fmt: skip

ON_GPU = {"classifier", "attack", "activation", "reference_activation", "adapt"}


def asked(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module", autouse=True)
def slurm() -> None:
    if not os.environ.get("DETOUR_SLURM"):
        pytest.skip("DETOUR_SLURM is not set: it says that there is a SLURM of two nodes to be disturbed")
    asked("scontrol", "update", "partitionname=main", "maxtime=1-0")


def jobs_of(workflow: Workflow) -> list[dict[str, str]]:
    """SLURM's own records of what was submitted from the workflow's folder."""
    lines = asked("scontrol", "show", "job", "--oneliner").splitlines()
    jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
    return [
        job | {"rule": re.fullmatch(r"rule_(.+?)(_wildcards_.*)?", job["Comment"]).group(1)}
        for job in jobs
        if job.get("WorkDir") == str(workflow.folder)
    ]


def slurm_s_log_of(workflow: Workflow, rule: str) -> str:
    """Those of failed jobs, which the error names and which alone are kept."""
    logs = sorted((workflow.folder / f".snakemake/slurm_logs/rule_{rule}").glob("*.log"))
    return "".join(log.read_text() for log in logs)


def once(workflow: Workflow, rule: str, act: Callable[[dict[str, str]], None]) -> Callable[[], bool]:
    """Does something, once, to the first running job of a rule; says whether it was done."""
    done = []

    def look() -> bool:
        running = [j for j in jobs_of(workflow) if j["JobState"] == "RUNNING" and j["rule"] == rule]
        if running and not done:
            act(running[0])
            done.append(running[0])
        return bool(done)

    return look


def hurry(workflow: Workflow) -> None:
    """Let jobs of a failed node start again at once: SLURM waits two minutes."""
    for job in jobs_of(workflow):
        if job["JobState"] == "PENDING" and job["Restarts"] != "0":
            again = ["scontrol", "update", f"jobid={job['JobId']}", "starttime=now"]
            subprocess.run(again, check=False, capture_output=True)


def test_run_survives_what_happens_on_a_cluster(lean, tmp_path):
    workflow = Workflow(tmp_path, lean.settings)
    # Processes of SLURM's, which it limits and stops, not forks of another.
    workflow.python = sys.executable

    def cancel(job: dict[str, str]) -> None:
        asked("scancel", job["JobId"])

    def fail_its_node(job: dict[str, str]) -> None:
        asked("scontrol", "update", f"nodename={job['NodeList']}", "state=down", "reason=test")
        # Refused where the node has registered again by itself: then it is back.
        subprocess.run(["scontrol", "update", f"nodename={job['NodeList']}", "state=resume"], check=False)

    looks = [
        once(workflow, "attack", cancel),
        once(workflow, "reference_activation", fail_its_node),
    ]
    # Enough from the second attempt on.
    running = workflow.started(
        *PROFILE, "--resources", "lane=2", "--set-resources", "fold:mem_mb=60 if attempt == 1 else 2000"
    )
    while running.poll() is None:
        done = [look() for look in looks]
        hurry(workflow)
        time.sleep(1)
    printed = workflow.printed.read_text()
    assert all(done), "a job to be disturbed never ran"
    assert running.returncode == 0, printed

    jobs = jobs_of(workflow)
    assert {job["BatchFlag"] for job in jobs} == {"1"}
    assert {node for job in jobs for node in job["NodeList"].split(",")} >= {"node1", "node2"}
    assert {job["rule"] for job in jobs} > ON_GPU
    for job in jobs:
        assert (job.get("TresPerJob") == "gres:gpu:1") == (job["rule"] in ON_GPU), job
    states = {job["JobState"] for job in jobs}
    assert "CANCELLED" in states
    assert states & {"OUT_OF_MEMORY", "FAILED"}
    assert "NODE_FAIL" in states or any(job["Restarts"] != "0" for job in jobs)
    # Groups: a SLURM job for many of Snakemake's.
    assert len(jobs) < len(re.findall(r"^Finished jobid", printed, re.MULTILINE))

    for name in ("verdicts.csv", "outcomes.csv", "scores.csv", "metrics.csv", "summary.csv"):
        assert (workflow.results / name).read_bytes() == (lean.results / name).read_bytes(), name
    assert "Nothing to be done" in workflow.snakemake("--dry-run").stdout


def test_without_another_try_the_error_says_what_happened_and_the_rerun_completes(copied, finished):
    copied.python = sys.executable
    small = ("--forcerun", "fold", "--set-resources", "fold:mem_mb=60")
    ran = copied.snakemake(*PROFILE, "results/small/folds.csv", "--retries", "0", *small)
    assert ran.returncode != 0
    assert re.search(r"Error in rule fold:", ran.stdout)
    assert re.search(r"SLURM-job '\d+' failed, SLURM status is: '?(OUT_OF_MEMORY|FAILED)", ran.stdout)
    assert "exceeded memory limit" in slurm_s_log_of(copied, "fold")
    ran = copied.snakemake(*PROFILE, "results/small/folds.csv")
    assert ran.returncode == 0, ran.stdout
    assert (copied.results / "folds.csv").read_bytes() == (finished.results / "folds.csv").read_bytes()
