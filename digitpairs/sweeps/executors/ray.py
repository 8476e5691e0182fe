"""The executor on a Ray cluster: a piece is a task.

The nodes need no file of this machine. The code goes to each node as Ray's working directory, the
digits as one object in its object store; the files of a run come back whole when it has ended. A
task whose node dies is started again, without the runs whose files have arrived.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import tempfile
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

from digitpairs.checks import InvalidValueError
from digitpairs.data import sources
from digitpairs.sweeps import provenance
from digitpairs.sweeps.executors.base import TICK, Event, Message, Piece, train_piece
from digitpairs.sweeps.executors.code import code_digest, write_code
from digitpairs.sweeps.executors.remote_files import moved, read_run, write_run
from digitpairs.sweeps.executors.settings import RaySettings
from digitpairs.sweeps.jobs import Job
from digitpairs.sweeps.workers import available_cores, call_in_process, format_warning

CONNECT_SECONDS = 3  # until a host has answered
CLUSTER_SECONDS = 20  # until the cluster has said what its nodes have; connecting takes 2 to 5
MAX_LOSSES = 3  # of nodes under one piece, which may be what kills them
_KEY = "sweep.ray.address"
_ACCEPTED = "HOST:PORT of a Ray cluster that answers, as `ray start --head` prints them"


class Cluster(NamedTuple):
    """Where the tasks of a sweep run."""

    address: str | None
    cpus: float  # of a task
    gpus: float  # of a task
    tasks: int  # that run at once


class _Common(NamedTuple):
    """What all tasks need, once a node."""

    address: str | None
    threads: int
    versions: dict[str, str]  # of the driver
    digits: list[tuple[tuple[str, str | None, str], tuple[Any, ...]]]  # see `_digits`


def reach(settings: RaySettings) -> None:
    """Raise InvalidValueError if nothing answers at the address."""
    host, _, port = (settings.address or "").rpartition(":")
    if host:
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as fault:
            raise InvalidValueError(_KEY, settings.address, f"{_ACCEPTED}; {fault}") from None


def find_cluster(settings: RaySettings, jobs: Sequence[Job], threads: int) -> Cluster:
    """The cluster of the settings, and how many tasks it runs at once.

    A process of its own asks, since this process cannot fork any more once it has connected.
    Raises InvalidValueError if no cluster answers, or if a task fits on none of its nodes.
    """
    _refuse_shared_folders(jobs)
    accelerators = {job.config["trainer"].get("accelerator", "cpu") for job in jobs}
    cpus = threads if settings.cpus is None else settings.cpus
    gpus = (1 if accelerators & {"gpu", "cuda"} else 0) if settings.gpus is None else settings.gpus
    nodes: list[dict[str, float]]
    if settings.address is None:
        here = torch.cuda.device_count() if gpus else 0
        nodes = [{"CPU": len(available_cores()), "GPU": here}]
    else:
        nodes = _nodes(settings.address)
    for key, share, resource in (("cpus", cpus, "CPU"), ("gpus", gpus, "GPU")):
        most = max(node.get(resource, 0) for node in nodes)
        if share > most:
            accepted = f"at most {most:g}, the {resource}s of the cluster's largest node"
            raise InvalidValueError(f"sweep.ray.{key}", share, accepted)
    tasks = sum(
        int(min(node["CPU"] / cpus, node.get("GPU", 0) / gpus if gpus else node["CPU"] / cpus))
        for node in nodes
        if node.get("CPU")
    )
    if not tasks:
        accepted = "what one node of the cluster has together with sweep.ray.gpus"
        raise InvalidValueError("sweep.ray.cpus", cpus, accepted)
    return Cluster(settings.address, cpus, gpus, tasks)


class RayExecutor:
    """See `Executor`.

    Args:
        cluster: where the tasks run; `close` disconnects, and ends a cluster started here.
        tasks: the number of tasks at once.
        threads: the number of threads of each task.
    """

    def __init__(self, cluster: Cluster, tasks: int, threads: int) -> None:
        self._cluster, self._tasks, self._threads = cluster, tasks, threads
        self._ray = _connect(cluster.address, self._tasks * cluster.cpus)
        options = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus, "max_retries": 0}
        self._train = self._ray.remote(num_returns="streaming", **options)(_train)

    def run(self, pieces: Sequence[Piece]) -> Iterator[Message]:
        # What is left of each piece, and how many nodes it has lost
        todo = deque((dict(piece), 0) for piece in pieces)
        common = self._ray.put(self._common(pieces))
        running: dict[Any, tuple[dict[int, Job], int]] = {}
        try:
            while todo or running:
                while todo and len(running) < self._tasks:
                    piece, losses = todo.popleft()
                    running[self._train.remote(piece, common)] = piece, losses
                ready, _ = self._ray.wait(list(running), timeout=TICK, fetch_local=False)
                if not ready:
                    yield Message("tick", (), None)
                for task in ready:
                    yield from self._messages(task, running, todo)
        finally:
            for task in running:
                self._ray.cancel(task, force=True)

    def close(self) -> None:
        self._ray.shutdown()

    def _common(self, pieces: Sequence[Piece]) -> _Common:
        jobs = [job for piece in pieces for job in piece.values()]
        versions = _versions()
        return _Common(self._cluster.address, self._threads, versions, _digits(jobs))

    def _messages(
        self, task: Any, running: dict[Any, tuple[dict[int, Job], int]], todo: deque[Any]
    ) -> Iterator[Message]:
        """The next message of a task; a task that has ended is no longer running."""
        errors = self._ray.exceptions
        piece, losses = running[task]
        runs = list(piece)
        try:
            events = self._ray.get(next(task))
        except StopIteration:
            del running[task]
        except InvalidValueError:  # by `_refuse_other_versions`
            raise
        except (errors.NodeDiedError, errors.ObjectLostError, errors.WorkerCrashedError) as error:
            del running[task]
            if losses == MAX_LOSSES:
                yield Message("failed", runs, _last_line(error))
            elif piece:
                todo.appendleft((piece, losses + 1))
                yield Message("note", runs, "a node or worker of Ray has died: its runs start anew")
        except errors.RuntimeEnvSetupError as error:
            raise InvalidValueError(_KEY, self._cluster.address, _last_line(error)) from None
        except Exception as error:  # whatever the task raised: the piece has failed
            del running[task]
            yield Message("failed", runs, _last_line(error))
        else:
            yield Message("events", runs, [self._received(event, piece) for event in events])

    def _received(self, event: Event, piece: dict[int, Job]) -> Event:
        """The event. The files of a run that has ended are written; the run leaves its piece."""
        if event[0] != "ended":
            return event
        kind, index, failure, contents = event
        fault = write_run(piece.pop(index), contents)
        return kind, index, fault or failure


def _connect(address: str | None, cpus: float) -> Any:
    """Connect this process to the cluster, or start one here; returns the module `ray`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to a server
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or a warning says so
    import ray

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    variables = {provenance.COMMIT: provenance.provenance()["commit"] or ""}
    with tempfile.TemporaryDirectory() as folder:
        write_code(Path(folder))
        environment = {"working_dir": folder, "env_vars": variables}
        if address is None:
            here = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
            ray.init("local", num_cpus=cpus, runtime_env=environment, **here, **quiet)
        else:
            ray.init(address, runtime_env=environment, **quiet)
    return ray


def _nodes(address: str) -> list[dict[str, float]]:
    """The resources of each node of the cluster that is alive."""
    try:
        return call_in_process(lambda: _ask_for_nodes(address), CLUSTER_SECONDS)
    except RuntimeError as fault:
        raise InvalidValueError(_KEY, address, f"{_ACCEPTED}; {fault}") from None


def _ask_for_nodes(address: str) -> list[dict[str, float]]:
    import ray

    with open(os.devnull, "w") as nothing:  # a cluster that does not answer is one message
        os.dup2(nothing.fileno(), 2)
    ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _refuse_shared_folders(jobs: Sequence[Job]) -> None:
    """Raise InvalidValueError for a logger or callback that writes to the sweep's folder."""
    for group in ("logger", "callbacks"):
        for name, part in ((jobs[0].config.get(group)) or {}).items():
            if "{sweep_folder}" in str(part):
                accepted = (
                    "a part without {sweep_folder}, such as the address of a server: the workers "
                    "of sweep.executor=ray do not have that folder"
                )
                raise InvalidValueError(f"{group}.{name}", part, accepted)


def _versions() -> dict[str, str]:
    """What must be equal on all nodes."""
    return {**provenance.versions(), "code": code_digest()}


def _digits(jobs: Sequence[Job]) -> list[tuple[tuple[str, str | None, str], tuple[Any, ...]]]:
    """The digits of the jobs by the arguments of `sources.load`, as arrays.

    Ray shares arrays between the processes of a node.
    """
    wanted = {}
    for data in (job.config["data"] for job in jobs):
        if "source" in data:
            key = data["source"], data.get("root"), data.get("polarity", "auto")
            wanted[key] = sources.load(*key)
    return [
        (key, (source.name, *(t.numpy() for d in source[1:] for t in (d.images, d.classes))))
        for key, source in wanted.items()
    ]


def _train(piece: Piece, common: _Common) -> Iterator[list[Event]]:
    """The task: train the piece's runs, and yield their events, an end with the run's files."""
    _refuse_other_versions(common)
    _provide(common)
    batches: queue.SimpleQueue[list[Event] | None] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="digitpairs-") as name, ThreadPoolExecutor(1) as pool:
        placed = {index: moved(job, Path(name)) for index, job in piece.items()}
        # In a thread, since Ray wants the batches from this one
        training = pool.submit(_train_placed, placed, common.threads, batches)
        training.add_done_callback(lambda _: batches.put(None))
        while (events := batches.get()) is not None:
            yield events
        training.result()  # raises what the training raised


def _train_placed(piece: Piece, threads: int, batches: queue.SimpleQueue) -> None:
    torch.set_num_threads(threads)  # a setting of the thread

    def send(events: list[Event]) -> None:
        batches.put([_with_files(event, piece) for event in events])

    def send_warning(*warning: Any, **_: Any) -> None:
        batches.put([("note", format_warning(*warning))])

    warnings.showwarning = send_warning
    train_piece(piece, send)


def _with_files(event: Event, piece: Piece) -> Event:
    return (*event, read_run(piece[event[1]].folder)) if event[0] == "ended" else event


def _provide(common: _Common) -> None:
    for key, (name, *arrays) in common.digits:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*not writable")  # nothing writes to digits
            images, classes, test_images, test_classes = map(torch.from_numpy, arrays)
        train, test = sources.Digits(images, classes), sources.Digits(test_images, test_classes)
        sources.provide(*key, sources.Source(name, train, test))


def _refuse_other_versions(common: _Common) -> None:
    here = _versions()
    for name, version in common.versions.items():
        if here[name] != version:
            place = f"{name} {version} on every node, and {socket.gethostname()} has {here[name]}"
            raise InvalidValueError(_KEY, common.address or "null", f"a cluster with {place}")


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
