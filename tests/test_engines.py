"""Both tasks with both engines, by the command and compared with each other."""

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import framework as fw
from digitpairs.analysis import disk_plots
from digitpairs.checks import DigitPairsWarning, InvalidValueError
from digitpairs.data import DiskDataModule, PairDataModule
from digitpairs.engines.lightning_trainer import check_trainer, make_trainer, running
from digitpairs.engines.pairs_framework import Training
from digitpairs.engines.to_framework import convert_networks, copy_back
from digitpairs.losses import LambdaWeighting, loss_parts
from digitpairs.networks import CNNBody, MLPBody, SiameseNetwork, create
from digitpairs.networks.layers import draw_masks, dropout_layers
from digitpairs.streams import stream
from digitpairs.training import SGD, Adam, PairComparison, PointClassification
from tests.arguments import refusal

DISK = [
    *("task=disk", "data.points=120", "data.test_points=90", "data.batch_size=25"),
    "trainer.max_epochs=3",
]
PAIRS = [
    *("data=digits", "model=siamese_mlp", "model.body.hidden=[16]"),
    *("data.pairs=60", "data.test_pairs=40", "trainer.max_epochs=2"),
]


def with_changes(arguments: list[str], changes: str) -> list[str]:
    """The arguments with others after them; an argument of the same key is replaced."""
    return list({each.split("=")[0]: each for each in [*arguments, *changes.split()]}.values())


def find_runs(outputs: Path) -> list[Path]:
    return sorted(path.parent for path in outputs.glob("*/*/*/config.yaml"))


def read_result(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def read_history(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def read_column(run: Path, name: str) -> list[float]:
    return [row[name] for row in read_history(run)]


def test_the_disk_by_the_command(command, tmp_path):
    status, out, err = command(*DISK, "-m", "seed=0..3")
    assert status == 0 and err == ""
    assert "Test error, %, data: disk" in out and "4 runs" in out
    runs = find_runs(tmp_path / "outputs")
    assert len(runs) == 4
    expected = {"points": 120, "test_points": 90, "epochs": 3, "parameters": 17025}
    for run in runs:
        result = read_result(run)
        assert {key: result[key] for key in expected} == expected
        assert result["engine"] == "framework"
        assert result["train/error"] == read_history(run)[-1]["train/error"]
        module = PointClassification.load_from_checkpoint(run / "checkpoint.ckpt")
        assert sum(parameter.numel() for parameter in module.parameters()) == 17025
    assert len({read_result(run)["test/loss"] for run in runs}) == 4
    assert "4 runs, all finished before" in command(*DISK, "-m", "seed=0..3")[1]


TWIN_SETTINGS = {
    "sgd": "",
    "adamw": "loss=binary_cross_entropy optimizer=adamw scheduler=one_cycle model.activation=gelu "
    "data.normalise=true",
    "tanh": "data.outside=-1 model.output_activation=tanh optimizer=adam scheduler=warm_restarts "
    "loss.reduction=sum optimizer.lr=0.001",
    "dropout": "model.dropout=0.3 model.initialise=he optimizer.lr=0.01 scheduler=step "
    "scheduler.step_size=1 optimizer.nesterov=true data.batch_size=50",
    "batch_norm": "model.batch_norm=true model.activation=selu optimizer.lr=0.01 "
    "scheduler=exponential data.validation=0.2 optimizer.weight_decay=0.01",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TWIN_SETTINGS)
def test_both_engines_give_the_same_results_for_the_disk(command, tmp_path, name):
    settings = with_changes(DISK, f"{TWIN_SETTINGS[name]} trainer.precision=64-true")
    sweep = ["engine=framework,lightning", "-m", "seed=3", "sweep.plan=serial"]
    assert command(*settings, *sweep)[0] == 0
    ours, theirs = find_runs(tmp_path / "outputs")
    result, expected = read_result(ours), read_result(theirs)
    assert (result["engine"], expected["engine"]) == ("framework", "lightning")
    for row, expected_row in zip(read_history(ours), read_history(theirs), strict=True):
        assert row == pytest.approx(expected_row, rel=1e-6, abs=1e-9)
    for metric in ("test/loss", "test/error"):
        assert result[metric] == pytest.approx(expected[metric], rel=1e-6)
    weights, expected_weights = (
        torch.load(run / "checkpoint.ckpt", weights_only=False)["state_dict"]
        for run in (ours, theirs)
    )
    for key in weights:
        if not key.endswith("num_batches_tracked"):  # torch counts them and does not use them
            torch.testing.assert_close(
                weights[key].double(), expected_weights[key].double(), atol=1e-6, rtol=1e-5
            )


@pytest.mark.slow
def test_early_stopping_of_the_disk(command, tmp_path):
    stopping = "data.validation=0.25 trainer.max_epochs=40 optimizer.lr=0.5"
    settings = with_changes(DISK, f"{stopping} early_stopping.patience=1")
    sweep = ["engine=framework,lightning", "-m", "seed=0,1", "sweep.plan=serial"]
    assert command(*settings, *sweep)[0] == 0
    runs = find_runs(tmp_path / "outputs")
    assert len(runs) == 4 and len({run.parent for run in runs}) == 2
    for run in runs:
        result, losses = read_result(run), read_column(run, "validation/loss")
        assert result["epochs"] == len(losses) < 40
        assert result["best_epoch"] == losses.index(min(losses)) == len(losses) - 2
        assert result["validation/loss"] == min(losses)


@pytest.mark.slow
def test_early_stopping_of_the_disk_with_min_delta(command, tmp_path):
    stopping = "early_stopping.patience=3 early_stopping.min_delta=0.05"
    settings = with_changes(DISK, f"data.validation=0.25 trainer.max_epochs=30 {stopping}")
    for engine in ("framework", "lightning"):
        assert command(*settings, f"engine={engine}", "seed=0")[0] == 0
    for run in find_runs(tmp_path / "outputs"):
        losses, best, best_epoch = read_column(run, "validation/loss"), math.inf, 0
        for epoch, loss in enumerate(losses):
            if loss < best - 0.05:
                best, best_epoch = loss, epoch
        result = read_result(run)
        assert result["best_epoch"] == best_epoch and len(losses) == best_epoch + 4
        assert result["validation/loss"] == losses[best_epoch]
        with np.load(run / "boundary.npz") as file:
            assert file["epochs"][-1] == best_epoch + 1


@pytest.mark.parametrize("engine", ["framework", "lightning"])
@pytest.mark.parametrize(
    "settings, message",
    [("", "FAILED, the loss is"), ("data.batch_size=120 trainer.max_epochs=1", "FAILED, the ")],
    ids=["first epoch", "very last step"],
)
def test_a_run_of_the_disk_that_diverges_fails(command, tmp_path, engine, settings, message):
    arguments = with_changes(DISK, f"{settings} engine={engine} optimizer.lr=1e30 seed=0")
    status, out, err = command(*arguments)
    assert status == 1 and message in out + err and "JSON" not in out + err
    (failure,) = (tmp_path / "outputs").glob("*/*/*/failure.json")
    assert json.loads(failure.read_text())["epoch"] == 0


@pytest.mark.parametrize(
    "arguments, accepted",
    [
        ("engine=keras", "one of lightning, framework"),
        ("data.points=0", "a whole number of at least 1"),
        ("data.validation=1.0", "a share that leaves some of the 120 points for the training"),
        (
            "model.activation=relus",
            "one of relu, tanh, sigmoid, selu, gelu, leaky_relu; did you mean relu?",
        ),
        ("model.initialise=zero", "one of torch, xavier, he, lecun"),
        ("model.output_activation=relu", "one of tanh, sigmoid"),
        ("loss.reduction=max", "one of mean, sum"),
        ("trainer.max_epochs=0", "a whole number of at least 1"),
        ("+trainer.accelerator=gpu", "for the disk one of max_epochs, precision"),
        ("trainer.precision=16", "one of 32-true, 64-true"),
        ("early_stopping.min_delta=x", "a number of at least 0"),
        ("optimizer.lr=-1", "a number above 0"),
        (
            "model.batch_norm=true data.batch_size=1",
            "one that leaves no mini-batch of a single point",
        ),
        ("loss=binary_cross_entropy data.outside=-1", "0 with the binary cross-entropy"),
        ("loss=binary_cross_entropy model.output_activation=sigmoid", "null for logits"),
        ("data.outside=-1 model.output_activation=sigmoid", "null or tanh for the labels -1 and 1"),
    ],
)
def test_an_invalid_config_of_the_disk_is_refused(arguments, accepted):
    *rest, last = arguments.split()
    message = refusal(tuple(with_changes(DISK, " ".join(rest))), last)
    assert message.startswith(f"{last.lstrip('+')} is not accepted: {accepted}"), message


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            "early_stopping.patience=2",
            "early_stopping.monitor=validation/loss is not accepted: train/loss or train/error, "
            "unless points are held out, as by data.validation=0.2",
        ),
        (
            "data.points=1 data.normalise=true",
            "data.normalise=True is not accepted: false with a single training point",
        ),
        (
            "model=siamese_cnn",
            "model._target_=SiameseNetwork is not accepted: digitpairs.networks.",
        ),
    ],
)
def test_a_setting_of_the_disk_that_conflicts_is_named(arguments, message):
    *base, last = with_changes(DISK, arguments)
    assert refusal(tuple(base), last).startswith(message)


UNSUPPORTED = "engine=framework is not accepted: lightning, since this network"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("model=mlp aux=none", f"{UNSUPPORTED} is not what `framework` has"),
        ("model.sharing=false", f"{UNSUPPORTED} is not what `framework` has"),
        ("model.comparison_outputs=2", f"{UNSUPPORTED}'s comparison is not"),
        (
            "aux=uncertainty",
            "aux=UncertaintyWeighting is not accepted: weights that are fixed within an epoch with",
        ),
        ("trainer.precision=bf16-mixed", "trainer.precision=bf16-mixed is not accepted: 32-true w"),
        (
            "trainer.gradient_clip_val=-1",
            "trainer.gradient_clip_val=-1 is not accepted: a number a",
        ),
        ("model=disk_mlp", "model._target_=digitpairs.networks.points.PointMLP is not accepted: "),
        (
            "data=disk",
            "data._target_=digitpairs.data.DiskDataModule is not accepted: pairs of digits, or ta",
        ),
        ("data.outside=1", "data.outside=1 is not accepted: there is no such key"),
        ("loss=mse", "loss=mse is not accepted: nothing, since this task has no loss to choose"),
        ("data.augmentation.shift=1", "data.augmentation="),
    ],
)
def test_an_invalid_config_of_pairs_is_refused(arguments, message):
    group = arguments.partition("=")[0]
    rest = [item for item in PAIRS if group not in ("model", "data") or not item.startswith(group)]
    *base, last = [*rest, "engine=framework", *arguments.split()]
    assert refusal(tuple(base), last).startswith(message)


NETWORKS = {
    "mlp": lambda: SiameseNetwork(MLPBody([24, 12], dropout=0.2), comparison_hidden=[8]),
    "cnn": lambda: SiameseNetwork(CNNBody([4, 6], hidden=[10], dropout=0.3), comparison_hidden=[8]),
    "posterior": lambda: SiameseNetwork(CNNBody([4], hidden=[8]), comparison_input="posterior"),
    "gelu": lambda: SiameseNetwork(
        CNNBody([4], paddings=1, hidden=[10]),
        activation="gelu",
        batch_norm=True,
        comparison_input="logits",
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 2e-5)], ids=["float64", "float32"]
)
def test_the_loss_of_each_step_is_that_of_autograd(name, dtype, tolerance):
    """In float32 the tolerance is for rounding errors, which Adam's steps enlarge in an epoch."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        data = PairDataModule("digits", pairs=200, batch_size=20, seed=5)
        data.prepare_data()
        data.setup()
        members = [
            PairComparison(
                create(NETWORKS[name], stream(seed, "weights")),
                LambdaWeighting(0.8),
                Adam(lr=0.002),
                seed=seed,
            )
            for seed in (1, 2)
        ]
        ours, theirs = Training(members, [data, data]), members[1]
        ours.network.to(dtype)
        ours.trainer.optimizer = type(ours.trainer.optimizer)(ours.network.parameters(), 0.002)
        theirs.train()
        theirs.set_mean_and_std(*data.mean_and_std)
        optimizer = theirs.optimizer_recipe(theirs.network.parameters())
        masks, layers = stream(2, "dropout"), dropout_layers(theirs.network)
        pairs, order = ours.data("train_set"), torch.randperm(200, generator=stream(5, "order"))
        for rows in order.split(20):
            images = pairs.inputs[:, rows].to(dtype)
            target, digits = (tensor[:, rows] for tensor in pairs.targets)
            draw_masks(layers, 20, [masks])
            prediction = theirs.network(images[1])
            loss = theirs.aux(loss_parts(prediction, digits[1], target[1, :, 0].long()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            _, losses = ours.trainer.step(images, (target.to(dtype), digits))
            assert losses[1].item() == pytest.approx(loss.item(), rel=tolerance)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.slow
def test_both_engines_give_close_results_for_pairs(command, tmp_path):
    settings = [*PAIRS, "data.validation=0.2", "-m", "seed=0..2"]
    assert command(*settings, "engine=framework,lightning", "sweep.plan=serial")[0] == 0
    runs = find_runs(tmp_path / "outputs")
    for ours, theirs in zip(runs[:3], runs[3:], strict=True):
        engines = (read_result(ours)["engine"], read_result(theirs)["engine"])
        assert engines == ("framework", "lightning")
        for row, expected in zip(read_history(ours), read_history(theirs), strict=True):
            assert row == pytest.approx(expected, rel=1e-3, abs=1e-5)
        weights, expected_weights = (
            PairComparison.load_from_checkpoint(run / "checkpoint.ckpt").state_dict()
            for run in (ours, theirs)
        )
        assert weights.keys() == expected_weights.keys()
        for name, value in weights.items():
            torch.testing.assert_close(value, expected_weights[name], atol=1e-3, rtol=1e-2)
    assert command(*settings, "engine=framework", output=tmp_path / "replicas")[0] == 0
    for replica, alone in zip(find_runs(tmp_path / "replicas"), runs[:3], strict=True):
        expected = read_result(alone)["test/loss"]
        assert read_result(replica)["test/loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("algorithm, bound", [("norm", 0.05), ("value", 0.002)])
def test_both_engines_clip_the_gradients_of_pairs(algorithm, bound):
    """With SGD, whose steps change with the gradient's length."""
    data = PairDataModule("digits", pairs=60, test_pairs=20, batch_size=20, seed=5)
    data.prepare_data()
    data.setup()
    clipping = {"gradient_clip_val": bound, "gradient_clip_algorithm": algorithm}
    ours, theirs = (
        PairComparison(
            create(NETWORKS["mlp"], stream(1, "weights")), optimizer=SGD(1.0), **clipping
        )
        for _ in range(2)
    )
    Training([ours], [data]).run(epochs=2)
    with running():
        make_trainer({"max_epochs": 2, "accelerator": "cpu"}).fit(theirs, data)
    losses = [row["train/loss"] for row in theirs.history]
    assert [row["train/loss"] for row in ours.history] == pytest.approx(losses, rel=1e-4)
    for name, value in theirs.network.state_dict().items():
        torch.testing.assert_close(ours.network.state_dict()[name], value, atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_early_stopping_of_pairs_with_framework(command, tmp_path):
    stopping = "trainer.max_epochs=30 data.validation=0.3 early_stopping.patience=1"
    assert command(*with_changes(PAIRS, stopping), "engine=framework", "seed=1")[0] == 0
    (run,) = find_runs(tmp_path / "outputs")
    result, errors = read_result(run), read_column(run, "validation/comparison_error")
    assert result["best_epoch"] == errors.index(min(errors)) == len(errors) - 2 < 28
    assert result["validation/comparison_error"] == min(errors)


def test_weights_are_converted_and_copied_back():
    networks = [create(NETWORKS["gelu"], stream(seed, "weights")) for seed in (1, 2)]
    targets = [create(NETWORKS["gelu"], stream(seed, "weights")) for seed in (3, 4)]
    copy_back(convert_networks(networks, []), targets)
    for network, target in zip(networks, targets):
        values = target.state_dict()
        assert network.state_dict().keys() == values.keys()
        for name, value in network.state_dict().items():
            assert torch.equal(value, values[name]), name


def test_the_sets_of_a_data_module_are_data_for_the_trainer():
    module = DiskDataModule(points=60, test_points=50, seed=3)
    module.setup()
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    network = fw.mlp(2, [8], 1, generators)
    optimizer, measure = fw.SGD(network.parameters(), 0.1), fw.threshold_error(0.5)
    trainer = fw.Trainer(network, fw.MSE(), optimizer, generators, measure=measure)
    train, test = ([part[None] for part in each] for each in (module.train_set, module.test_set))
    assert [row["epoch"] for row in trainer.fit(train, 2)[1]] == [0, 1]
    wrong = (trainer.predict(test[0])[0] > 0.5) != (module.test_set.target > 0.5)
    expected = 100 * wrong.double().mean().item()
    assert trainer.evaluate(test)[0]["error"] == pytest.approx(expected)


@pytest.mark.slow
def test_plots_of_the_disk(command, tmp_path, capsys):
    assert command(*DISK, "model.hidden=[4],[8,8]", "-m", "seed=0,1")[0] == 0
    (sweep,) = {path.parent.parent for path in find_runs(tmp_path / "outputs")}
    plots = [sweep / f"{name}.png" for name in ("curves", "points", "boundary", "width")]
    assert disk_plots.main([str(sweep)]) == 0
    assert capsys.readouterr().out.split() == [str(plot) for plot in plots]
    assert all(plot.stat().st_size > 5000 for plot in plots)
    with np.load(next(sweep.glob("*/seed=0/boundary.npz"))) as file:
        assert file["epochs"].tolist() == [1, 2, 3] and file["inside"].shape == (3, 64, 64)
        inside = ((file["points"] - 0.5) ** 2).sum(1) < 1 / (2 * math.pi)
        assert np.array_equal(inside, file["labels"] == 1)
    (axes, *_) = disk_plots.figures(disk_plots.runs_of_the_disk(sweep))["curves"].axes[1:]
    legend = {text.get_text() for text in axes.get_legend().get_texts()}
    assert legend == {"model.hidden=[4] (n = 2)", "model.hidden=[8,8] (n = 2)"}
    assert disk_plots.main([str(tmp_path)]) == 2
    assert "is not accepted: a folder with finished runs of task=disk" in capsys.readouterr().err


@pytest.mark.slow
def test_a_damaged_boundary_is_left_out_of_the_plots(command, tmp_path):
    """In results without an inventory, damage is noticed only when the boundary is read."""
    assert command(*DISK, "-m", "seed=0,1")[0] == 0
    runs = find_runs(tmp_path / "outputs")
    for run in runs:
        result = read_result(run)
        del result["files"]
        (run / "result.json").write_text(json.dumps(result))
    damaged = runs[0] / "boundary.npz"
    damaged.write_bytes(b"no zip")
    message = f"{damaged} is damaged: File is not a zip file; it is left out"
    with pytest.warns(DigitPairsWarning, match=message):
        name, _ = disk_plots.first_boundary(disk_plots.runs_of_the_disk(runs[0].parent.parent))
    assert name == "disk_mlp seed=1"


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment, runs", [("disk_best", 2), ("skura/disk", 2), ("azzano/disk", 4)]
)
def test_experiments_of_the_disk(command, tmp_path, experiment, runs):
    short = ["smoke=on", "data.points=40", "data.test_points=100"]
    assert command(f"experiment={experiment}", *short)[0] == 0
    assert len(find_runs(tmp_path / "outputs")) == runs


# The environment variables of a process that each launcher starts.
CLUSTERS = {
    "sbatch -n 4": "SLURM_NTASKS=4 SLURM_JOB_NAME=train",
    "srun": "SLURM_NTASKS=4 SLURM_JOB_NAME=train SLURM_PROCID=3 SLURM_LOCALID=3 SLURM_JOB_ID=7 "
    "SLURM_NODELIST=n[1-2]",
    "torchrun": "TORCHELASTIC_RUN_ID=x GROUP_RANK=1 RANK=3 LOCAL_RANK=1 WORLD_SIZE=4 "
    "LOCAL_WORLD_SIZE=2",
    "jsrun": "LSB_JOBID=1 LSB_DJOB_RANKFILE=/nowhere JSM_NAMESPACE_LOCAL_RANK=1 "
    "JSM_NAMESPACE_RANK=3 JSM_NAMESPACE_SIZE=4",
    "Kubeflow": "KUBERNETES_PORT=1 MASTER_ADDR=a MASTER_PORT=1 WORLD_SIZE=4 RANK=3",
    "mpirun": "OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=1",
}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_run_on_a_cluster_is_a_single_process(monkeypatch, cluster):
    for variable in CLUSTERS[cluster].split():
        monkeypatch.setenv(*variable.split("="))
    section = {"max_epochs": 1, "accelerator": "cpu", "precision": "32-true", "deterministic": True}
    check_trainer(section)
    trainer = make_trainer(section)
    assert (trainer.world_size, trainer.global_rank, trainer.is_global_zero) == (1, 0, True)
    with pytest.raises(InvalidValueError, match="trainer.plugins=x is not accepted"):
        check_trainer(section | {"plugins": "x"})


@pytest.mark.slow
def test_a_run_on_a_login_node_of_slurm_has_no_warning(command, monkeypatch, tmp_path):
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    status, _, err = command(*PAIRS, "seed=0")
    assert (status, err) == (0, "")
