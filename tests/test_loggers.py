"""The groups `logger` and `callbacks`: loggers and callbacks of Lightning by name."""

import csv
import json
import sqlite3
import struct
import sys

import pytest
import torch

from digitpairs.configs import CONF
from digitpairs.sweeps.compose import compose_command
from digitpairs.sweeps.jobs import fingerprint, plan_jobs
from tests.arguments import DIGITS, DISK, refusal
from tests.conftest import SMALL

TWO = [*SMALL, "-m", "seed=0,1", "sweep.plan=serial"]
MINE = """
import json
from pathlib import Path
from pytorch_lightning import Callback
from pytorch_lightning.loggers import Logger


class Lines(Logger):
    def __init__(self, save_dir, title=""):
        super().__init__()
        self._path = Path(save_dir, "lines.json")
        self._lines = [["title", title]]

    name, version = "lines", 0

    def log_hyperparams(self, params, *args, **kwargs):
        self._lines.append(["settings", params])

    def log_metrics(self, metrics, step=None):
        self._lines.append(["row", metrics])

    def finalize(self, status):
        self._lines.append(["end", status])
        self._path.write_text(json.dumps(self._lines))


class Broken(Lines):
    def log_metrics(self, metrics, step=None):
        raise OSError("no connection")


class Count(Callback):
    def __init__(self, dirpath):
        self._path, self._epochs = Path(dirpath), 0

    def on_train_epoch_end(self, trainer, module):
        self._epochs += 1

    def on_fit_end(self, trainer, module):
        self._path.mkdir()
        (self._path / "epochs").write_text(str(self._epochs))


class Nothing:
    pass
"""
LINES, COUNT = "logger.lines._target_=myparts.Lines", "callbacks.count._target_=myparts.Count"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The module `myparts` can be imported."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "myparts.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(folder))
    yield
    sys.modules.pop("myparts", None)


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def run_folders(output):
    return sorted(output.glob("*/*/seed=*"))


def config_of_a_job(*arguments):
    (job,) = plan_jobs(compose_command(CONF, [*SMALL, "data.validation=0.2", *arguments]))
    return job


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ["sweep.plan=array", "sweep.processes=1"],
        ["sweep.plan=serial"],
        ["engine=framework", "sweep.plan=array"],
        ["callbacks=lr_monitor", "sweep.plan=serial"],
        ["task=disk", "sweep.plan=serial"],
        ["task=disk", "engine=lightning", "sweep.plan=serial"],
    ],
    ids=" ".join,
)
def test_a_logger_gets_the_rows_of_metrics_csv_and_of_the_test(command, tmp_path, settings):
    small = ["trainer.max_epochs=2"] if "task=disk" in settings else SMALL
    status, _, err = command(*small, *settings, "-m", "seed=0,1", "logger=csv")
    assert status == 0, err
    folders = run_folders(tmp_path / "outputs")
    assert len(folders) == 2
    for folder in folders:
        written, logged = rows_of(folder / "metrics.csv"), rows_of(folder / "csv" / "metrics.csv")
        epochs = [row for row in logged if row.get("train/loss")]
        assert [{key: row[key] for key in written[0]} for row in epochs] == written
        result = json.loads((folder / "result.json").read_text())
        (test,) = [row for row in logged if row["test/loss"]]
        expected = {key: value for key, value in result.items() if key.startswith("test/")}
        assert {key: float(test[key]) for key in expected} == pytest.approx(expected, rel=1e-6)
        assert f"seed: {result['seed']}" in (folder / "csv" / "hparams.yaml").read_text()


@pytest.mark.slow
def test_a_logger_of_ones_own_has_the_settings_and_the_end_of_each_run(command, tmp_path, mine):
    status, out, err = command(*TWO, LINES, "logger.lines.title=a", "logger=csv")
    assert status == 0, out + err
    for seed, folder in enumerate(run_folders(tmp_path / "outputs")):
        lines = json.loads((folder / "lines.json").read_text())
        assert lines[0] == ["title", "a"] and lines[1][1]["seed"] == seed
        assert [kind for kind, _ in lines] == ["title", "settings", "row", "row", "row", "end"]
        assert lines[-1] == ["end", "success"]
        assert (folder / "csv" / "metrics.csv").is_file()


@pytest.mark.slow
def test_a_run_that_diverges_ends_its_loggers_as_failed(command, tmp_path, mine):
    status, _, _ = command(*TWO, LINES, "optimizer.lr=1e30", "scheduler=none")
    assert status == 1
    for folder in run_folders(tmp_path / "outputs"):
        assert json.loads((folder / "lines.json").read_text())[-1] == ["end", "failed"]


@pytest.mark.slow
def test_a_logger_that_raises_fails_its_runs_with_its_error(command, tmp_path, mine):
    status, _, err = command(*TWO, "logger.lines._target_=myparts.Broken")
    assert status == 1
    assert err.count("FAILED, OSError: no connection") == 2
    assert json.loads((run_folders(tmp_path / "outputs")[0] / "lines.json").read_text())


@pytest.mark.slow
def test_another_logger_keeps_folders_and_finished_runs(command, tmp_path):
    assert command(*TWO)[0] == 0
    folders = run_folders(tmp_path / "outputs")
    status, out, _ = command(*TWO, "logger=csv", "logger.csv.name=rows")
    assert status == 0 and "2 runs, all finished before" in out
    assert command(*SMALL, "-m", "seed=2", "sweep.plan=serial", "logger=csv")[0] == 0
    assert [path.parent for path in run_folders(tmp_path / "outputs")] == [folders[0].parent] * 3


@pytest.mark.slow
def test_only_callbacks_enter_the_fingerprint():
    plain = config_of_a_job().config
    without = {key: value for key, value in plain.items() if key not in ("logger", "callbacks")}
    # That of the same run before there were loggers and callbacks
    assert fingerprint(plain) == fingerprint(without) == "78d950d1"
    assert fingerprint(config_of_a_job("logger=csv").config) == "78d950d1"
    assert fingerprint(config_of_a_job("callbacks=swa").config) != "78d950d1"


@pytest.mark.slow
def test_runs_with_a_callback_of_ones_own_train_alone(command, tmp_path, mine):
    status, out, err = command(*SMALL, "-m", "seed=0,1", COUNT)
    assert status == 0, out + err
    assert "2 alone" in out and "not stacked: callbacks: Lightning calls count for one run" in out
    for folder in run_folders(tmp_path / "outputs"):
        assert (folder / "checkpoints" / "epochs").read_text() == "2"


@pytest.mark.slow
def test_callbacks_watch_and_stop_the_runs_of_both_tasks(command, tmp_path):
    stop = ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=100"]
    settings = ["callbacks=[model_checkpoint,early_stopping]", *stop, "trainer.max_epochs=4"]
    for task in ([*SMALL[:-1], "data.validation=0.2"], ["task=disk", "engine=lightning"]):
        validation = ["data.validation=0.2"] if "task=disk" in task else []
        status, out, err = command(*task, *validation, *settings)
        assert status == 0, out + err
    for folder in run_folders(tmp_path / "outputs"):
        rows = rows_of(folder / "metrics.csv")
        assert len(rows) == 2
        monitor = "validation/comparison_error"
        monitor = monitor if monitor in rows[0] else "validation/loss"
        best = min(range(2), key=lambda epoch: float(rows[epoch][monitor]))
        assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"epoch={best}.ckpt"]


@pytest.mark.slow
def test_averaging_ends_with_the_mean_of_the_last_epochs(command, tmp_path, mine):
    every = ["callbacks.model_checkpoint.save_top_k=-1", "callbacks.model_checkpoint.monitor=null"]
    average = ["callbacks=[model_checkpoint,swa]", "callbacks.swa.start=0.5", *every]
    for choice in (average, ["callbacks=model_checkpoint", *every]):
        status, out, err = command(*SMALL[:-1], "trainer.max_epochs=4", *choice)
        assert status == 0, out + err
    by_epoch, result = {}, None
    for folder in run_folders(tmp_path / "outputs"):
        if "swa" in folder.parent.parent.name:
            result = weights(folder / "checkpoint.ckpt")
        else:
            by_epoch = {n: weights(folder / "checkpoints" / f"epoch={n}.ckpt") for n in range(4)}
    for name in result:
        mean = (by_epoch[2][name] + by_epoch[3][name]) / 2
        torch.testing.assert_close(result[name], mean, rtol=1e-5, atol=1e-6)
        assert "weight" not in name or not torch.equal(result[name], by_epoch[3][name])


def weights(path):
    state = torch.load(path, weights_only=False)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("network.")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["logger=wnadb"], "logger=wnadb is not accepted: one of csv, mlflow, tensorboard, wandb"),
        (["logger=[csv,wnadb]"], "logger=wnadb is not accepted: one of csv"),
        (["callbacks=early"], "callbacks=early is not accepted: one of device_stats"),
        (["logger=csv,wandb", "-m"], "the same loggers for all runs of a sweep: logger=["),
        (["+trainer.callbacks=[a]"], "trainer.callbacks=['a'] is not accepted: a choice of the"),
        (["logger.a._target_=myparts.Nothing"], "logger.a._target_=myparts.Nothing is not"),
        (["logger.a._target_=pytorch_lightning.Trainer"], "gives a pytorch_lightning.loggers"),
        (["logger.a._target_=myparts.Lines", "logger.a.b=1"], "logger.a.b=1 is not accepted: one"),
        (["logger=csv", "+logger.csv.nmae=a"], "logger.csv.nmae=a is not accepted: one of"),
        (["logger=csv", "logger.csv=5"], "logger.csv=5 is not accepted: a mapping with _target_"),
        (["callbacks.a._target_=myparts.Nothing"], "callbacks.a._target_=myparts.Nothing is not"),
        (["callbacks=model_checkpoint"], "callbacks.model_checkpoint.monitor=validation/comp"),
        (
            ["callbacks=early_stopping", "callbacks.early_stopping.monitor=train/losss"],
            "callbacks.early_stopping.monitor=train/losss is not accepted: one of",
        ),
        (["callbacks=lr_monitor", "engine=framework"], "callbacks=lr_monitor is not accepted: "),
        (["callbacks=swa", "callbacks.swa.start=2"], "callbacks.swa.start=2 is not accepted: a"),
        (
            ["callbacks=lr_monitor", "sweep.plan=array", "seed=0,1", "-m"],
            "sweep.plan=array is not accepted: auto or processes: runs of the disk",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_message(command, mine, arguments, message):
    status, out, err = command(*SMALL, *arguments)
    assert status == 2, out
    assert message in err and err.count("\n") == 1


def test_the_disk_with_framework_takes_no_callback():
    message = refusal((*DISK, "callbacks=lr_monitor"), "seed=0")
    assert message.startswith("callbacks=lr_monitor is not accepted: none with engine=framework")


def test_a_missing_package_is_named_with_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refusal(DIGITS, "logger=wandb")
    assert message.startswith("logger.wandb._target_=pytorch_lightning.loggers.WandbLogger")
    assert "pip install 'digitpairs[wandb]'" in message


def train_array(command, logger: str) -> None:
    settings = ["sweep.plan=array", "sweep.processes=1"]
    status, out, err = command(*SMALL, "-m", "seed=0,1", logger, *settings)
    assert status == 0, out + err


@pytest.mark.long
def test_mlflow_has_each_run_of_an_array(command, tmp_path):
    pytest.importorskip("mlflow")
    train_array(command, "logger=mlflow")
    (database,) = (tmp_path / "outputs").glob("*/mlflow.db")
    with sqlite3.connect(database) as connection:
        runs = connection.execute("select run_uuid, name, status from runs").fetchall()
        query = "select key, step, value from metrics where run_uuid = ?"
        metrics = {name: connection.execute(query, [uuid]).fetchall() for uuid, name, _ in runs}
    assert [status for *_, status in runs] == ["FINISHED"] * 2
    for folder in run_folders(tmp_path / "outputs"):
        logged = {(key, step): value for key, step, value in metrics[folder_name(folder)]}
        for row in rows_of(folder / "metrics.csv"):
            for key, value in row.items():
                assert logged[key, int(row["epoch"])] == float(value)


@pytest.mark.long
def test_wandb_has_each_run_of_an_array_without_network(command, tmp_path):
    pytest.importorskip("wandb")
    train_array(command, "logger=wandb")
    for folder in run_folders(tmp_path / "outputs"):
        (path,) = folder.glob("wandb/offline-run-*/*.wandb")
        name, config, logged = wandb_records(path)
        assert name == folder_name(folder) and config["seed"] == int(folder.name[5:])
        rows = rows_of(folder / "metrics.csv")
        assert len(logged) == len(rows) + 1  # the test
        for row, written in zip(logged, rows):
            assert {key: row[key] for key in written} == {k: float(v) for k, v in written.items()}


def wandb_records(path):
    """The run's name, its config and its rows in a file of wandb's offline mode."""
    from wandb.proto.wandb_internal_pb2 import Record

    name, config, rows = "", {}, []
    for data in leveldb_records(path.read_bytes()[7:], 7):
        record = Record()
        record.ParseFromString(data)
        name = record.run.display_name or name
        for item in [*record.run.config.update, *record.config.update]:
            config[item.key or item.nested_key[0]] = json.loads(item.value_json)
        if record.history.item:
            items = record.history.item
            rows.append({i.key or i.nested_key[0]: json.loads(i.value_json) for i in items})
    return name, config, rows


def leveldb_records(content, offset):
    """The records of LevelDB's log format, which begins at this offset of a file.

    A block of 32 KiB has fragments: checksum (4 bytes), length (2) and type (1), then the content.
    """
    position, record = 0, b""
    while position + 7 <= len(content):
        rest = 32768 - (offset + position) % 32768
        if rest < 7:
            position += rest
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # the whole record, or its last fragment
            yield record
            record = b""


def folder_name(folder):
    return f"{folder.parent.name}/{folder.name}"
