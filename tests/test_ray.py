"""Sweeps on a Ray cluster."""

from __future__ import annotations

import importlib
import importlib.util
import json
import pickle
import shutil
import socket
import subprocess
import sys

import pytest
import torch

from digitpairs.checks import InvalidValueError
from digitpairs.cli import CONF
from digitpairs.data import sources
from digitpairs.sweeps.compose import compose_command
from digitpairs.sweeps.executors import ray, remote_files
from digitpairs.sweeps.executors.code import write_code
from digitpairs.sweeps.executors.settings import EXECUTORS, RaySettings
from digitpairs.sweeps.jobs import plan_jobs
from tests.conftest import ROOT, SMALL, SMALL_DATA_AND_MODEL, contents
from tests.processes import wait_for
from tests.test_one_answer import results_of

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed (extra: ray)")
ON_RAY = "sweep.executor=ray"


@pytest.fixture
def two_nodes():
    """A function that kills the second of two nodes, and the address of their cluster."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ray_nodes"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def kill() -> None:
        print("kill", file=process.stdin, flush=True)
        assert process.stdout.readline() == "killed\n"

    with process:
        yield kill, process.stdout.readline().strip()
        process.stdin.close()
        process.wait(60)


@needs_ray
@pytest.mark.long
def test_a_sweep_whose_node_is_killed_leaves_the_files_of_a_local_one(
    two_nodes, launch, command, tmp_path
):
    kill, address = two_nodes
    sweep = [*SMALL_DATA_AND_MODEL, "trainer.max_epochs=600", "-m", "seed=0..5"]
    elsewhere = [ON_RAY, f"sweep.ray.address={address}", "sweep.plan=processes"]
    output, own = tmp_path / "ray", tmp_path / "local"
    process = launch(*sweep, *elsewhere, f"output={output}")
    wait_for(lambda: contents(output) or process.exitcode is not None, 240)
    kill()
    before = {path: path.stat() for path in output.glob("*/*/*/result.json")}
    out, err = process.output(timeout=240)
    assert process.exitcode == 0, err
    assert out.startswith("6 runs: 6 alone, in 2 Ray tasks of 1 thread\n")
    assert "a node or worker of Ray has died" in err
    assert 1 <= len(before) < 6
    for path, status in before.items():
        assert path.stat().st_mtime_ns == status.st_mtime_ns and path.stat().st_ino == status.st_ino
    status, _, err = command(*sweep, output=own)
    assert status == 0, err
    assert results_of(output) == results_of(own)


@needs_ray
@pytest.mark.long
def test_a_cluster_of_this_machine_trains_digits_and_classes_that_only_the_driver_has(
    tmp_path, data, monkeypatch
):
    (tmp_path / "mybody.py").write_text(OWN_BODY)
    arguments = [*SMALL[1:], "data=idx", f"data.root={data}", "model.body._target_=mybody.Body"]
    arguments.remove("model.body.hidden=[16]")
    command = [sys.executable, str(ROOT / "train.py"), *arguments, "-m", "seed=0,1", ON_RAY]
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert len(contents(tmp_path / "outputs")) == 2


OWN_BODY = """
from torch import nn


class Body:
    def __init__(self, width=8):
        self.width = width

    def __call__(self, channels, rows_per_pair, activation, batch_norm):
        return nn.Sequential(nn.Flatten(-3), nn.Linear(channels * 196, self.width)), self.width
"""


def test_digits_reach_a_process_without_their_files(data, monkeypatch):
    monkeypatch.setattr(sources, "_PROVIDED", {})
    key = "idx", str(data), "auto"
    (job,) = plan_jobs(compose_command(CONF, ["data=idx", f"data.root={data}"]))
    read = sources.load(*key)
    sent = pickle.loads(pickle.dumps(ray._digits([job])))
    assert [each for each, _ in sent] == [key]
    shutil.rmtree(data)
    ray._provide(ray._Common(None, 1, {}, sent))
    provided = sources.load(*key)
    assert provided.name == read.name
    for part, expected in zip(provided[1:], read[1:]):
        assert torch.equal(part.images, expected.images)
        assert torch.equal(part.classes, expected.classes)


def test_a_node_with_other_versions_is_one_message():
    versions = {"torch": "0.1"}
    with pytest.raises(InvalidValueError, match="torch 0.1 on every node, and .* has 2"):
        ray._refuse_other_versions(ray._Common("head:6379", 1, versions, []))
    ray._refuse_other_versions(ray._Common("head:6379", 1, ray._versions(), []))


def test_the_code_of_the_driver_is_copied_with_the_modules_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "skip.py").write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("mine.skip")
    copy = tmp_path / "copy"
    write_code(copy)
    monkeypatch.delitem(sys.modules, "mine.skip")
    monkeypatch.delitem(sys.modules, "mine")
    assert (copy / "mine" / "__init__.py").exists()
    assert (copy / "mine" / "skip.py").read_text() == "x = 1"
    for package in ("digitpairs", "framework"):
        names = {path.relative_to(ROOT / package) for path in (ROOT / package).rglob("*.py")}
        assert names == {
            path.relative_to(copy / package) for path in copy.rglob(f"{package}/**/*.py")
        }
    assert not (copy / "torch").exists()


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS[1:])
def test_an_executor_that_is_not_installed_is_one_message(command, monkeypatch, tmp_path, executor):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, out, err = command(*SMALL, f"sweep.executor={executor}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: sweep.executor={executor} is not accepted: local without ")
    assert f'pip install "digitpairs[{executor}]"' in err
    assert not (tmp_path / "outputs").exists()


@needs_ray
def test_an_address_that_nothing_listens_at_is_one_message(command, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    status, out, err = command(*SMALL, ON_RAY, f"sweep.ray.address={address}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(
        f"error: sweep.ray.address={address} is not accepted: HOST:PORT of a Ray "
    )
    assert "Connection refused" in err and not (tmp_path / "outputs").exists()


@pytest.mark.slow
@needs_ray
def test_an_address_that_is_not_rays_is_one_message(command, monkeypatch):
    monkeypatch.setattr("digitpairs.sweeps.executors.ray.CLUSTER_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        status, out, err = command(*SMALL, ON_RAY, f"sweep.ray.address={address}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: sweep.ray.address={address} is not accepted: ")
    assert "no answer within 1 seconds" in err


@pytest.mark.parametrize(
    "shares, tasks",
    [
        ({"gpus": 0.5}, 4 + 2),
        ({"gpus": 1}, 2 + 1),
        ({"gpus": 2}, 1),
        ({"gpus": 0.25, "cpus": 2}, 2 + 1),
        ({}, 4 + 1 + 3),
    ],
)
def test_pieces_share_gpus_and_cores(monkeypatch, shares, tasks):
    nodes = [{"CPU": 4, "GPU": 2}, {"CPU": 1}, {"CPU": 3, "GPU": 1}]
    monkeypatch.setattr(ray, "_nodes", lambda address: nodes)
    jobs = plan_jobs(compose_command(CONF, [*SMALL, "trainer.accelerator=cpu"]))
    cluster = ray.find_cluster(RaySettings("127.0.0.2:1", **shares), jobs, 1)
    assert cluster.tasks == tasks


@needs_ray
@pytest.mark.parametrize(
    "argument, message",
    [
        ("sweep.ray.cpus=1000", "sweep.ray.cpus=1000 is not accepted: at most "),
        ("sweep.ray.gpus=1000", "sweep.ray.gpus=1000 is not accepted: at most "),
        ("sweep.ray.cpus=0", "sweep.ray.cpus=0 is not accepted: a number above 0"),
        ("sweep.ray.gpus=-1", "sweep.ray.gpus=-1 is not accepted: a number of at least 0"),
        ("sweep.ray.address=here", "sweep.ray.address=here is not accepted: HOST:PORT of a "),
        ("sweep.ray.address=ray://h:1", "sweep.ray.address=ray://h:1 is not accepted: HOST:PORT"),
        ("sweep.plan=serial", "sweep.plan=serial is not accepted: auto, array or processes with"),
        ("sweep.executor=rya", "sweep.executor=rya is not accepted: one of local, ray, slurm; did"),
        (
            "logger.x={_target_:pytorch_lightning.loggers.CSVLogger,save_dir:'{sweep_folder}'}",
            "logger.x={'_target_': 'pytorch_lightning.loggers.CSVLogger', 'save_dir': "
            "'{sweep_folder}'} is not accepted: a part without {sweep_folder}",
        ),
    ],
)
def test_settings_that_no_cluster_can_have_are_one_message(command, argument, message):
    executor = [] if argument.startswith("sweep.executor") else [ON_RAY]
    prefix = "+" if argument.startswith("logger.x") else ""
    status, _, err = command(*SMALL, *executor, prefix + argument)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: {message}")


@pytest.mark.slow
def test_the_settings_of_executors_are_not_part_of_the_folders(command, tmp_path):
    status, out, _ = command(*SMALL, "sweep.ray.cpus=2", "sweep.slurm.time=5")
    assert status == 0
    status, out, _ = command(*SMALL)
    assert status == 0 and out.startswith("1 run, all finished before")
    assert len(contents(tmp_path / "outputs")) == 1


class TestFilesOfARunElsewhere:
    @pytest.fixture
    def job(self, tmp_path):
        (job,) = plan_jobs(compose_command(CONF, [*SMALL, f"output={tmp_path / 'outputs'}"]))
        return job

    def test_they_come_back_whole(self, job, tmp_path):
        elsewhere = remote_files.moved(job, tmp_path / "node")
        assert elsewhere.folder.is_relative_to(tmp_path / "node")
        assert elsewhere.folder.parts[-3:] == job.folder.parts[-3:]
        (elsewhere.folder / "csv").mkdir(parents=True)
        (elsewhere.folder / "csv" / "metrics.csv").write_bytes(b"a,b\n")
        (elsewhere.folder / "result.json").write_text("{}")
        job.folder.mkdir(parents=True)
        (job.folder / "events.of.an.interrupted.run").touch()
        assert remote_files.write_run(job, remote_files.read_run(elsewhere.folder)) is None
        found = {str(path.relative_to(job.folder)) for path in job.folder.rglob("*.*")}
        assert found == {"csv/metrics.csv", "result.json"}

    def test_the_result_is_written_last(self, job, monkeypatch):
        written = []
        monkeypatch.setattr(
            "digitpairs.files.write_atomically", lambda path, content: written.append(path.name)
        )
        assert remote_files.write_run(job, dict.fromkeys(["result.json", "a", "z"], b"")) is None
        assert written == ["a", "z", "result.json"]

    def test_a_full_disk_is_the_runs_failure(self, job, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(remote_files.files, "write_atomically", full)
        reason = remote_files.write_run(job, {"result.json": json.dumps({}).encode()})
        assert reason.startswith("OSError: [Errno 28] No space left on device")
