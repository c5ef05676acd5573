import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_info

from detour import compute, distances, gaussians, medoids, neighbours, store
from detour.compute import Dask

# For one machine; a cluster needs no more than cores and memory.
SLURM = {
    "cores": 1,
    "memory": "1GB",
    "interface": "lo",
    "scheduler_options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"},
    "worker_extra_args": ["--dashboard-address", "127.0.0.1:0"],
}


class Cluster:
    """A scheduler, and workers that neither start in this folder nor can import this library."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
        self.folder, self.stack = folder, stack
        (folder / "other/detour").mkdir(parents=True)
        (folder / "other/detour/__init__.py").write_text("raise ImportError('a worker has no library')")
        about = folder / "scheduler.json"
        self.scheduler = self.start("scheduler", "--port", "0", "--scheduler-file", str(about))
        self.address = wait_for(lambda: about.exists() and json.loads(about.read_text() or "{}"))["address"]

    def start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options, "--host", "127.0.0.1",
             "--dashboard-address", "127.0.0.1:0"],
            cwd=self.folder, env=os.environ | {"PYTHONPATH": str(self.folder / "other")},
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.stack.callback(process.wait, timeout=20)
        self.stack.callback(process.kill)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        # No nanny, which would set the number of threads and start a killed worker again.
        return self.start("worker", self.address, "--nthreads", "1", "--no-nanny")


def wait_for(condition):
    """What the condition gives once it is true, within half a minute."""
    end = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


@contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(folder, stack)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    with started(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.worker()
        cluster.worker()
        yield cluster


@pytest.fixture
def dask(request) -> Dask:
    match request.param:
        case "cluster":
            return Dask(1, request.getfixturevalue("cluster").address)
        case "slurm":
            pytest.importorskip("dask_jobqueue", reason="the extra `cluster` is not installed")
            if not os.environ.get("DETOUR_SLURM"):
                pytest.skip("DETOUR_SLURM is not set: it says that a SLURM is running on this machine")
            folder = request.getfixturevalue("tmp_path")
            return Dask(1, "slurm", 2, SLURM | {"log_directory": str(folder), "job_name": folder.name})
        case name, threads:
            return Dask(threads, name)


HERE = [("threads", 1), ("threads", 3), ("processes", 2)]
# Together with the tests that disturb it.
ON_SLURM = pytest.param("slurm", marks=(pytest.mark.slow, pytest.mark.xdist_group("slurm")), id="slurm")
ON_CLUSTER = pytest.param("cluster", marks=pytest.mark.slow, id="cluster")
EVERYWHERE = pytest.mark.parametrize("dask", [*HERE, ON_CLUSTER, ON_SLURM], indirect=True, ids=str)
WITHOUT_SLURM = pytest.mark.parametrize("dask", [*HERE, ON_CLUSTER], indirect=True, ids=str)


@pytest.fixture
def stages(rng, write_store, made, tmp_path, monkeypatch):
    """A run of the stages on Dask, which gives the digests of the stores."""
    # Many blocks, and more than one round of them.
    monkeypatch.setattr(store, "CHUNK_BYTES", 2_000)
    monkeypatch.setattr(neighbours, "ENTRIES", 1_000)
    monkeypatch.setattr(gaussians, "ENTRIES", 1_000)
    monkeypatch.setattr(compute, "ROUND", 3)
    layers = ["a", "b"]

    def rows(n):
        return {name: rng.gamma(1, size=(n, 24)).astype(np.float32) for name in layers}

    label = np.repeat(np.arange(12), rng.integers(3, 40, 12))
    shards = [np.flatnonzero(label // 6 == i) for i in range(2)]
    references = [
        write_store(f"r{i}", rows(len(at)) | {"label": label[at], "logits": np.zeros((len(at), 12))})
        for i, at in enumerate(shards)
    ]
    images = write_store(
        "set", rows(60) | {"label": np.arange(60) % 12, "predicted": np.arange(60) % 7}, layers=layers
    )

    def run(dask: Dask) -> list[str]:
        found = [tmp_path / f"m-{layer}.zarr.zip" for layer in layers]
        # As a job names them: from where it runs.
        near = [Path(os.path.relpath(path)) for path in references]
        for layer, path in zip(layers, found, strict=True):
            medoids.find(near, path, layer=layer, dask=dask, made=made)
        here, *others = os.path.relpath(images), *(tmp_path / f"{x}.zarr.zip" for x in "dng")
        distances.measure(here, found, others[0], dask=dask, made=made)
        neighbours.find(here, near, others[1], layers=layers, k=9, dask=dask, made=made)
        gaussians.fit(near, others[2], layers=["b"], dask=dask, made=made)
        return [store.digest(path) for path in (*found, *others)]

    return run


@EVERYWHERE
def test_every_scheduler_gives_the_same_bytes(stages, dask):
    assert stages(dask) == stages(Dask())


@WITHOUT_SLURM
def test_results_are_in_the_order_of_the_tasks(dask, monkeypatch):
    monkeypatch.setattr(compute, "ROUND", 2)

    def late(i):
        # The first of a round is the last to end.
        time.sleep(0.1 * (i % 2 == 0))
        return i

    assert list(dask.results([partial(late, i) for i in range(9)], "tasks")) == list(range(9))


@WITHOUT_SLURM
def test_every_task_has_one_thread(dask):
    def threads():
        # As kNN, it loads both.
        NearestNeighbors(algorithm="brute").fit(np.ones((9, 3), np.float32)).kneighbors()
        return {library["user_api"]: library["num_threads"] for library in threadpool_info()}

    found = list(dask.results([threads] * 3, "tasks"))
    assert all(each.keys() >= {"blas", "openmp"} for each in found)
    assert {count for each in found for count in each.values()} == {1}


@WITHOUT_SLURM
def test_an_error_of_a_task_is_the_error(dask):
    def broken():
        raise ValueError("found what cannot be")

    with pytest.raises(ValueError, match="found what cannot be"):
        list(dask.results([broken], "tasks"))


def test_a_round_of_results_is_in_memory_at_once():
    # Workers come, and go again.
    threads = iter([0, 3, 1, 1])
    rounds = list(compute._rounds(range(11), list, lambda: next(threads), 2))
    assert rounds == [[0, 1], [2, 3, 4, 5, 6, 7], [8, 9], [10]]


def test_the_log_says_how_far_it_is(caplog):
    with caplog.at_level("INFO", "detour"):
        list(Dask(2).results([int] * 40, "layer: groups"))
    assert caplog.messages[-1].startswith("layer: groups: 40 of 40 in ")


def test_processes_start_after_threads_of_every_library():
    """A fork of a process whose pools of threads are up must not wait for threads that it does not have."""
    script = """
import numpy as np, torch, zarr
from sklearn.neighbors import NearestNeighbors
from detour.compute import Dask

def search(seed):
    x = np.random.default_rng(seed).normal(size=(2000, 64)).astype(np.float32)
    array = zarr.array(x @ x[:64].T, chunks=(100, 64))
    return NearestNeighbors(algorithm="brute").fit(array[:]).kneighbors(array[:100])[1].sum()

torch.set_num_threads(2)
torch.ones(2000, 2000) @ torch.ones(2000, 2000)
expected = [search(i) for i in range(4)]
assert list(Dask(2, "processes").results([lambda i=i: search(i) for i in range(4)], "x")) == expected
"""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=environment | {"PYTHONPATH": str(Path(compute.__file__).parents[1])},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_workers_compute_with_the_code_of_the_job(cluster, monkeypatch):
    """Theirs cannot be imported; and a constant is the one that this process has, changed or not."""

    def imported():
        import detour

        return detour

    dask = Dask(1, cluster.address)
    with pytest.raises(ImportError, match="a worker has no library"):
        list(dask.results([imported], "tasks"))
    monkeypatch.setattr(medoids, "ENTRIES", 0)
    monkeypatch.setattr(medoids, "_slices", lambda n, step: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(dask.results([partial(medoids.medoid, np.ones((2, 2), np.float32))], "tasks"))


def killing(process: subprocess.Popen[bytes], seen: Path, text: str) -> threading.Thread:
    """Kill a process once a text is in a file."""

    def kill() -> None:
        wait_for(lambda: seen.exists() and text in seen.read_text().split())
        process.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def noted(file: Path, i: int) -> int:
    with file.open("a") as log:
        log.write(f"{os.getpid()}\n")
    time.sleep(0.3)
    return i


def tasks(file: Path, count: int) -> list[partial[int]]:
    # A module of tests is not on the path of a worker either.
    code = noted.__code__
    here = type(noted)(code, {"os": os, "time": time, "__builtins__": __builtins__}, "noted")
    return [partial(here, file, i) for i in range(count)]


@pytest.mark.slow
def test_a_killed_worker_is_survived(cluster, tmp_path):
    victim = cluster.worker()
    killer = killing(victim, tmp_path / "seen", str(victim.pid))
    dask = Dask(1, cluster.address)
    wait_for(lambda: threads(dask) == 3)
    assert list(dask.results(tasks(tmp_path / "seen", 20), "tasks")) == list(range(20))
    killer.join()
    assert victim.wait(timeout=5) == -9
    # It was in the middle: some tasks were begun twice.
    assert len((tmp_path / "seen").read_text().split()) > 20


def threads(dask: Dask) -> int:
    with dask._started() as (_, now):
        return now()


@pytest.mark.slow
def test_workers_that_are_not_there_yet_are_waited_for_and_a_lost_scheduler_is_an_error(tmp_path, caplog):
    with started(tmp_path) as cluster:
        dask = Dask(1, cluster.address)
        late = threading.Timer(1, cluster.worker)
        late.start()
        assert list(dask.results([int], "tasks")) == [0]
        assert "no workers yet, waiting for them" in caplog.text
        late.join()
        killer = killing(cluster.scheduler, tmp_path / "seen", wait_for(lambda: worker_pid(dask)))
        begin = time.monotonic()
        with pytest.raises(ValueError, match=f"lost the scheduler at {cluster.address}"):
            list(dask.results(tasks(tmp_path / "seen", 20), "tasks"))
        killer.join()
        assert time.monotonic() - begin < 30


@pytest.mark.slow
def test_the_last_worker_that_dies_is_told_of_and_then_an_error(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(compute, "WITHOUT_WORKERS", 3)
    with started(tmp_path) as cluster:
        only = cluster.worker()
        killer = killing(only, tmp_path / "seen", str(only.pid))
        dask = Dask(1, cluster.address)
        wait_for(lambda: threads(dask) == 1)
        message = "lost the last worker, and no other came within 3 s; see `dask worker`, start workers"
        with pytest.raises(ValueError, match=message):
            list(dask.results(tasks(tmp_path / "seen", 20), "tasks"))
        killer.join()
        waiting, *others = [r.message for r in caplog.records if "lost the last worker" in r.message]
        assert waiting == "dask.scheduler: lost the last worker, waiting 3 s for another; see `dask worker`"
        assert not others


@pytest.mark.slow
def test_a_worker_that_comes_after_the_last_died_goes_on(tmp_path, caplog):
    with started(tmp_path) as cluster:
        only = cluster.worker()
        killer = killing(only, tmp_path / "seen", str(only.pid))
        dask = Dask(1, cluster.address)
        wait_for(lambda: threads(dask) == 1)
        late = threading.Thread(target=lambda: (only.wait(), time.sleep(2), cluster.worker()))
        late.start()
        assert list(dask.results(tasks(tmp_path / "seen", 5), "tasks")) == list(range(5))
        late.join()
        killer.join()
        assert "lost the last worker, waiting 120 s for another" in caplog.text


def worker_pid(dask: Dask) -> str:
    def pid():
        return str(os.getpid())

    return next(dask.results([pid], "tasks"))


def test_a_scheduler_out_of_reach_is_an_error_after_some_seconds(monkeypatch):
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    monkeypatch.setattr(compute, "SECONDS", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    message = f"dask.scheduler: found no scheduler at {address} within 1 s.*dask scheduler.*threads"
    with pytest.raises(ValueError, match=message):
        list(Dask(1, address).results([int], "tasks"))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9])
def test_what_is_no_scheduler_is_an_error_whatever_it_answers(answer, monkeypatch):
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    monkeypatch.setattr(compute, "SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                stack.callback(connection.close)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(ValueError, match=f"found no scheduler at {address} within 1 s"):
            list(Dask(1, address).results([int], "tasks"))
        assert time.monotonic() - begin < 10
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("scheduler", "package"), [("tcp://127.0.0.1:8786", "distributed"), ("slurm", "dask_jobqueue")]
)
def test_a_package_that_is_missing_is_named_with_its_lock(scheduler, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    message = f"{scheduler} needs the package {package}.*pip install -r locks/cluster.txt"
    with pytest.raises(ValueError, match=message):
        list(Dask(1, scheduler).results([int], "tasks"))


def test_slurm_needs_sbatch(monkeypatch, tmp_path):
    pytest.importorskip("dask_jobqueue", reason="the extra `cluster` is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="`sbatch`, which is not on the PATH"):
        list(Dask(1, "slurm").results([int], "tasks"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quue": "short"}, "dask.options: found .*quue"),
        ({"cores": None}, "dask.options: found .*how much cores"),
        ({"queue": "nowhere"}, "dask.options: SLURM refuses .*nowhere"),
    ],
)
@pytest.mark.parametrize("dask", [ON_SLURM], indirect=True)
def test_options_that_slurm_or_dask_jobqueue_refuse_are_errors(dask, options, message):
    with pytest.raises(ValueError, match=message):
        list(Dask(1, "slurm", 1, dask.options | options).results([int], "tasks"))


@pytest.mark.parametrize("dask", [ON_SLURM], indirect=True)
def test_no_job_of_workers_is_left_in_the_queue(dask):
    def broken():
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        list(dask.results([int, broken], "tasks"))
    listing = [shutil.which("squeue"), "--noheader", "--states=PENDING,RUNNING", "--name"]
    wait_for(lambda: not subprocess.check_output([*listing, dask.options["job_name"]]))
