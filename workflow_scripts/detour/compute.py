"""Tasks on Dask: on threads or processes of the job, on an existing cluster, or on one requested from SLURM.

No other module knows Dask's schedulers. Results are the same bytes on each of them: they come in the order of
the tasks, and BLAS and OpenMP have one thread in every task.
"""

import asyncio
import importlib
import operator
import pickle
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

import cloudpickle
import dask
from threadpoolctl import threadpool_limits
from toolz import compose

import detour
from detour.errors import InputError
from detour.logs import logger, progress

T = TypeVar("T")

# Tasks per thread in one round: its results are in memory together, and a line of the log follows it.
ROUND = 8

# Time within which a cluster has to answer.
SECONDS = 10

# Time without any worker, after there were some, until it is an error.
WITHOUT_WORKERS = 120

OR_HERE = "or compute in the job itself with `dask.scheduler: threads`"

Compute = Callable[[Sequence[Callable[[], Any]]], Sequence[Any]]


@dataclass(frozen=True)
class Dask:
    """What computes tasks: the section `dask` of the configuration, and the threads of the job.

    Parameters
    ----------
    threads
        Threads or processes of the job; on a cluster, those of its workers count instead.
    scheduler
        `threads`, `processes`, `slurm`, or the address of a scheduler, `tcp://host:port`.
    workers
        Number of jobs that are requested from SLURM.
    options
        Of `dask_jobqueue.SLURMCluster`.
    """

    threads: int = 1
    scheduler: str = "threads"
    workers: int = 2
    options: dict[str, Any] = field(default_factory=dict)

    def results(self, tasks: Sequence[Callable[[], T]], what: str, at_once: int | None = None) -> Iterator[T]:
        """Results in the order of the tasks; only those of one round are in memory.

        Parameters
        ----------
        tasks
            They name files by absolute paths: a worker has its own working directory.
        what
            What the tasks are, in the words of the log.
        at_once
            Tasks per thread in one round; None: `ROUND`.

        Raises
        ------
        ValueError
            If the scheduler cannot be reached or used, or its last worker is lost.
        """
        with self._started() as (compute, threads):
            for found in progress(_rounds(tasks, compute, threads, at_once or ROUND), len(tasks), what, len):
                yield from found

    @contextmanager
    def _started(self) -> Iterator[tuple[Compute, Callable[[], int]]]:
        """Give what computes a list of tasks, and how many threads it has now."""
        match self.scheduler:
            case "threads":
                # Restores at the end what the tasks limit.
                with threadpool_limits(1):
                    yield _by(scheduler="threads", num_workers=self.threads), lambda: self.threads
            case "processes":
                # Forked, because spawning runs the script again, and Snakemake's scripts have no guard. All
                # are forked at the first task, while no other thread of the job is active.
                with ProcessPoolExecutor(self.threads, get_context("fork")) as pool:
                    yield _by(scheduler="processes", pool=pool, chunksize=1), lambda: self.threads
            case "slurm":
                with self._slurm() as cluster, self._client(cluster) as client:
                    yield _on(client, self._where), lambda: sum(client.nthreads().values())
            case address:
                self._knock(address)
                with self._client(address) as client:
                    yield _on(client, self._where), lambda: sum(client.nthreads().values())

    def _knock(self, address: str) -> None:
        """Check that a scheduler answers; a client waits for ever for one that listens but is silent."""
        distributed = self._imported("distributed")

        async def knock() -> None:
            how = distributed.Security().get_connection_args("client")
            connection = await distributed.comm.connect(address, timeout=SECONDS, **how)
            await connection.close()

        try:
            asyncio.run(asyncio.wait_for(knock(), SECONDS + 1))
        # Another server may answer anything, such as a length that does not fit into memory.
        except Exception as error:
            raise InputError(
                f"dask.scheduler: found no scheduler at {address} within {SECONDS} s ({error!r}); start one"
                f" with `dask scheduler` and its workers with `dask worker`, {OR_HERE}"
            ) from error

    @contextmanager
    def _client(self, cluster: Any) -> Iterator[Any]:
        distributed = self._imported("distributed")
        client = distributed.Client(cluster, timeout=SECONDS, set_as_default=False)
        with client:
            logger.info("dask.scheduler: %s, dashboard %s", client.scheduler.address, client.dashboard_link)
            if not client.nthreads():
                logger.warning("dask.scheduler: no workers yet, waiting for them; %s", self._where)
            try:
                yield client
            except (OSError, CancelledError) as error:
                if client.status == "running":
                    raise
                raise InputError(
                    f"dask.scheduler: lost the scheduler at {client.scheduler.address} ({error!r}); see what"
                    f" its log says and run again, {OR_HERE}"
                ) from error

    @property
    def _where(self) -> str:
        """Where a person looks for workers."""
        return "see `squeue` and their log" if self.scheduler == "slurm" else "see `dask worker`"

    @contextmanager
    def _slurm(self) -> Iterator[Any]:
        """Workers in jobs of SLURM, which end with the block."""
        jobqueue = self._imported("dask_jobqueue")
        if not shutil.which("sbatch"):
            raise InputError(
                "dask.scheduler: slurm asks for workers with `sbatch`, which is not on the PATH; run where it"
                f" is, {OR_HERE}"
            )
        try:
            cluster = jobqueue.SLURMCluster(**self.options)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"dask.options: found {self.options}, which dask_jobqueue.SLURMCluster does not take: {error}"
            ) from error
        with cluster:
            # Dask would wait for ever for a job that SLURM never runs.
            command = ["sbatch", "--test-only"]
            asked = subprocess.run(
                command, input=cluster.job_script(), capture_output=True, text=True, check=False
            )
            if asked.returncode:
                raise InputError(f"dask.options: SLURM refuses {self.options}: {asked.stderr.strip()}")
            cluster.scale(jobs=self.workers)
            yield cluster

    def _imported(self, package: str) -> Any:
        try:
            return importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise InputError(
                f"dask.scheduler: {self.scheduler} needs the package {error.name}, which is not installed;"
                f" `pip install -r locks/cluster.txt`, {OR_HERE}"
            ) from error


# The default: one thread of the job.
THREAD = Dask()


def _rounds(
    tasks: Sequence[Callable[[], T]], compute: Compute, threads: Callable[[], int], at_once: int
) -> Iterator[Sequence[T]]:
    """Results of some tasks at a time; workers may come and go in between."""
    start = 0
    while start < len(tasks):
        stop = start + at_once * max(1, threads())
        yield compute(tasks[start:stop])
        start = stop


def _by(**scheduler: Any) -> Compute:
    """A function that computes tasks in this job."""
    call = dask.delayed(_in_one_thread, pure=False)
    return lambda tasks: dask.compute(*map(call, tasks), **scheduler)


def _on(client: Any, where: str) -> Compute:
    """A function that computes tasks on a cluster.

    Its scheduler and workers do not need this library: a task reaches them as bytes that contain the code of
    this job, so that no worker uses older code that it has imported.
    """
    from distributed import wait

    had_workers = bool(client.nthreads())
    call = dask.delayed(compose(operator.call, pickle.loads), name="task", pure=False)

    def compute(tasks: Sequence[Callable[[], Any]]) -> Sequence[Any]:
        nonlocal had_workers
        cloudpickle.register_pickle_by_value(detour)
        try:
            sent = [cloudpickle.dumps(partial(_in_one_thread, task)) for task in tasks]
        finally:
            cloudpickle.unregister_pickle_by_value(detour)
        futures = client.compute([call(each) for each in sent])
        left, lost = futures, None
        while left and all(future.status != "error" for future in futures):
            with suppress(TimeoutError), client.as_current():
                wait(left, timeout=1, return_when="FIRST_COMPLETED")
            left = [future for future in left if not future.done()]
            if client.nthreads():
                had_workers, lost = True, None
            elif had_workers:
                lost = _without_workers(lost, where)
        return client.gather(futures)

    return compute


def _without_workers(since: float | None, where: str) -> float:
    """When the last worker was lost; a warning at first, later an error."""
    now = time.monotonic()
    if since is None:
        logger.warning(
            "dask.scheduler: lost the last worker, waiting %d s for another; %s", WITHOUT_WORKERS, where
        )
        return now
    if now - since > WITHOUT_WORKERS:
        raise InputError(
            f"dask.scheduler: lost the last worker, and no other came within {WITHOUT_WORKERS} s; {where},"
            f" start workers and run again, {OR_HERE}"
        )
    return since


def _in_one_thread(task: Callable[[], T]) -> T:
    """The result of a task, with its libraries limited to one thread.

    Every task sets the limit, because OpenMP has one for each calling thread. None lifts it, because BLAS has
    one for the whole process, in which other tasks may be running; Dask starts its workers with it.
    """
    threadpool_limits(1)
    return task()
