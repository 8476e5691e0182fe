"""Both tasks with both engines, through the command and against each other."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import framework as fw
from digitpairs.analysis import disk_plots
from digitpairs.checks import DigitPairsWarning, InvalidValueError
from digitpairs.data import DiskDataModule, PairDataModule
from digitpairs.engines.lightning_trainer import check_trainer, make_trainer
from digitpairs.engines.pairs_framework import Training
from digitpairs.engines.to_framework import copy_back, network_of
from digitpairs.losses import LambdaWeighting, loss_parts
from digitpairs.networks import CNNBody, MLPBody, SiameseNetwork, create
from digitpairs.networks.layers import draw_masks, dropout_layers
from digitpairs.streams import stream
from digitpairs.training import Adam, PairComparison, PointClassification

DISK = [
    "task=disk",
    "data.points=120",
    "data.test_points=90",
    "data.batch_size=25",
    "trainer.max_epochs=3",
]
PAIRS = [
    "data=digits",
    "model=siamese_mlp",
    "model.body.hidden=[16]",
    "data.pairs=60",
    "data.test_pairs=40",
    "trainer.max_epochs=2",
]


def folders(outputs: Path) -> list[Path]:
    return sorted(path.parent for path in outputs.glob("*/*/*/config.yaml"))


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_the_disk_by_the_command(command, tmp_path):
    status, out, err = command(*DISK, "-m", "seed=0..3")
    assert status == 0 and err == ""
    assert "Test error, %, data: disk" in out and "4 runs" in out
    runs = folders(tmp_path / "outputs")
    assert len(runs) == 4
    for run in runs:
        found = result(run)
        assert (
            found["points"] == 120
            and found["test_points"] == 90
            and found["epochs"] == 3
            and found["parameters"] == 17025
        )
        assert (
            found["train/error"] == history(run)[-1]["train/error"]
            and found["engine"] == "framework"
        )
        module = PointClassification.load_from_checkpoint(run / "checkpoint.ckpt")
        assert sum(parameter.numel() for parameter in module.parameters()) == 17025
    assert len({result(run)["test/loss"] for run in runs}) == 4
    assert "4 runs, all finished before" in command(*DISK, "-m", "seed=0..3")[1]


@pytest.mark.parametrize(
    "settings",
    [
        [],
        [
            "loss=binary_cross_entropy",
            "optimizer=adamw",
            "scheduler=one_cycle",
            "model.activation=gelu",
            "data.normalise=true",
        ],
        [
            "data.outside=-1",
            "model.output_activation=tanh",
            "optimizer=adam",
            "scheduler=warm_restarts",
            "loss.reduction=sum",
            "optimizer.lr=0.001",
        ],
        [
            "model.dropout=0.3",
            "model.initialise=he",
            "optimizer.lr=0.01",
            "scheduler=step",
            "scheduler.step_size=1",
            "optimizer.nesterov=true",
            "data.batch_size=50",
        ],
        [
            "model.batch_norm=true",
            "model.activation=selu",
            "optimizer.lr=0.01",
            "scheduler=exponential",
            "data.validation=0.2",
            "optimizer.weight_decay=0.01",
        ],
    ],
    ids=["sgd", "adamw", "tanh", "dropout", "batch_norm"],
)
def test_lightning_is_the_twin(command, tmp_path, settings):
    settings = [*DISK, *settings, "trainer.precision=64-true"]
    settings = list({item.split("=")[0]: item for item in settings}.values())  # each key once
    assert (
        command(*settings, "engine=framework,lightning", "-m", "seed=3,4", "sweep.plan=serial")[0]
        == 0
    )
    runs = folders(tmp_path / "outputs")
    for ours, theirs in zip(runs[:2], runs[2:], strict=True):
        assert (result(ours)["engine"], result(theirs)["engine"]) == ("framework", "lightning")
        for row, expected in zip(history(ours), history(theirs), strict=True):
            assert row == pytest.approx(expected, rel=1e-6, abs=1e-9)
        for name in ("test/loss", "test/error"):
            assert result(ours)[name] == pytest.approx(result(theirs)[name], rel=1e-6)
        weights = [
            torch.load(run / "checkpoint.ckpt", weights_only=False)["state_dict"]
            for run in (ours, theirs)
        ]
        for name, value in weights[0].items():
            if name.endswith("num_batches_tracked"):
                continue  # which torch counts and does not use
            torch.testing.assert_close(
                value.double(), weights[1][name].double(), atol=1e-6, rtol=1e-5
            )


def test_early_stopping_of_the_disk(command, tmp_path):
    stopping = [
        "early_stopping.patience=1",
        "data.validation=0.25",
        "trainer.max_epochs=40",
        "optimizer.lr=0.5",
    ]
    stopping = [
        *[item for item in DISK if "epochs" not in item],
        *stopping,
        "engine=framework,lightning",
    ]
    assert command(*stopping, "-m", "seed=0,1", "sweep.plan=serial")[0] == 0
    ours, theirs = (folders(tmp_path / "outputs")[start::2] for start in (0, 1))
    for run in [*ours, *theirs]:
        losses = [row["validation/loss"] for row in history(run)]
        assert result(run)["epochs"] == len(losses) < 40
        assert result(run)["best_epoch"] == losses.index(min(losses)) == len(losses) - 2
        assert result(run)["validation/loss"] == min(losses)
    for engine in (ours, theirs):
        assert engine[0].parent != engine[1].parent


def test_a_diverged_run_of_the_disk_fails_alone(command, tmp_path):
    for engine in ("framework", "lightning"):
        status, out, err = command(*DISK, f"engine={engine}", "optimizer.lr=1e30", "seed=0")
        assert status == 1 and "FAILED, the loss is" in out + err
    failures = list((tmp_path / "outputs").glob("*/*/*/failure.json"))
    assert len(failures) == 2 and all(
        json.loads(path.read_text())["epoch"] == 0 for path in failures
    )


def test_divergence_in_the_very_last_step(command, tmp_path):
    for engine in ("framework", "lightning"):
        status, out, err = command(
            *DISK[:3],
            "data.batch_size=120",
            "trainer.max_epochs=1",
            f"engine={engine}",
            "optimizer.lr=1e30",
            "seed=0",
        )
        assert status == 1 and "FAILED, the " in out + err and "JSON" not in out + err


def test_the_epoch_of_the_best_weights_with_min_delta(command, tmp_path):
    stopping = [
        "early_stopping.patience=3",
        "early_stopping.min_delta=0.05",
        "data.validation=0.25",
        "trainer.max_epochs=30",
    ]
    for engine in ("framework", "lightning"):
        assert (
            command(
                *[item for item in DISK if "epochs" not in item],
                *stopping,
                f"engine={engine}",
                "seed=0",
            )[0]
            == 0
        )
    for run in folders(tmp_path / "outputs"):
        losses, best, kept = [row["validation/loss"] for row in history(run)], math.inf, 0
        for epoch, loss in enumerate(losses):
            if loss < best - 0.05:
                best, kept = loss, epoch
        assert (
            result(run)["best_epoch"] == kept
            and result(run)["validation/loss"] == losses[kept]
            and len(losses) == kept + 4
        )
        with np.load(run / "boundary.npz") as file:
            assert file["epochs"][-1] == kept + 1


@pytest.mark.parametrize(
    "argument, message",
    [
        ("engine=keras", "engine=keras is not accepted: one of lightning, framework"),
        ("data.points=0", "data.points=0 is not accepted: a whole number of at least 1"),
        (
            "data.validation=1.0",
            "data.validation=1.0 is not accepted: a share that leaves some of the 120 points for the training",
        ),
        (
            "model.activation=relus",
            "model.activation=relus is not accepted: one of relu, tanh, sigmoid, selu, gelu, leaky_relu; did you mean relu?",
        ),
        (
            "model.initialise=zero",
            "model.initialise=zero is not accepted: one of torch, xavier, he, lecun",
        ),
        (
            "model.output_activation=relu",
            "model.output_activation=relu is not accepted: one of tanh, sigmoid",
        ),
        ("loss.reduction=max", "loss.reduction=max is not accepted: one of mean, sum"),
        (
            "trainer.max_epochs=0",
            "trainer.max_epochs=0 is not accepted: a whole number of at least 1",
        ),
        (
            "+trainer.accelerator=gpu",
            "trainer.accelerator=gpu is not accepted: for the disk one of max_epochs, precision",
        ),
        ("trainer.precision=16", "trainer.precision=16 is not accepted: one of 32-true, 64-true"),
        (
            "early_stopping.patience=2",
            "early_stopping.monitor=validation/loss is not accepted: train/loss or train/error, unless points are held out, as by data.validation=0.2",
        ),
        (
            "model.batch_norm=true data.batch_size=1",
            "data.batch_size=1 is not accepted: one that leaves no mini-batch of a single point",
        ),
        (
            "loss=binary_cross_entropy data.outside=-1",
            "data.outside=-1 is not accepted: 0 with the binary cross-entropy",
        ),
        (
            "early_stopping.min_delta=x",
            "early_stopping.min_delta=x is not accepted: a number of at least 0",
        ),
        (
            "loss=binary_cross_entropy model.output_activation=sigmoid",
            "model.output_activation=sigmoid is not accepted: null for logits",
        ),
        (
            "data.outside=-1 model.output_activation=sigmoid",
            "model.output_activation=sigmoid is not accepted: null or tanh for the labels -1 and 1",
        ),
        (
            "data.points=1 data.normalise=true",
            "data.normalise=True is not accepted: false with a single training point",
        ),
        ("optimizer.lr=-1", "optimizer.lr=-1 is not accepted: a number above 0"),
        (
            "model=siamese_cnn",
            "model._target_=SiameseNetwork is not accepted: digitpairs.networks.PointMLP for the disk",
        ),
    ],
)
def test_what_the_disk_refuses(command, tmp_path, argument, message):
    arguments = [item for item in DISK if item.split("=")[0] not in argument] + argument.split()
    status, out, err = command(*arguments, "seed=0")
    assert status == 2 and err.startswith(f"error: {message}"), err
    assert not folders(tmp_path / "outputs")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["model=mlp", "aux=none"],
            "engine=framework is not accepted: lightning, since this network is not what `framework` has",
        ),
        (
            ["model.sharing=false"],
            "engine=framework is not accepted: lightning, since this network is not what `framework` has",
        ),
        (
            ["model.comparison_outputs=2"],
            "engine=framework is not accepted: lightning, since this network's comparison is not",
        ),
        (
            ["aux=uncertainty"],
            "aux=UncertaintyWeighting is not accepted: weights that are fixed within an epoch with engine=framework",
        ),
        (["data.augmentation.shift=1"], "data.augmentation="),
        (
            ["trainer.precision=bf16-mixed"],
            "trainer.precision=bf16-mixed is not accepted: 32-true with engine=framework",
        ),
        (
            ["trainer.gradient_clip_val=1.0"],
            "trainer.gradient_clip_val=1.0 is not accepted: None with engine=framework",
        ),
        (
            ["model=disk_mlp"],
            "model=PointMLP is not accepted: a network that maps pairs (B, 2, 14, 14) to a Prediction: ",
        ),
        (
            ["data=disk"],
            "data._target_=digitpairs.data.DiskDataModule is not accepted: pairs of digits, or task=disk",
        ),
        (["data.outside=1"], "data.outside=1 is not accepted: there is no such key"),
        (["loss=mse"], "loss=mse is not accepted: nothing, since this task has no loss to choose"),
    ],
)
def test_what_framework_refuses_of_pairs(command, arguments, message):
    group = arguments[0].partition("=")[0]
    rest = [item for item in PAIRS if group not in ("model", "data") or not item.startswith(group)]
    status, _, err = command(*rest, "engine=framework", *arguments, "seed=0")
    assert status == 2 and err.startswith(f"error: {message}"), err


BODIES = {
    "mlp": lambda: SiameseNetwork(MLPBody([24, 12], dropout=0.2), comparison_hidden=[8]),
    "cnn": lambda: SiameseNetwork(CNNBody([4, 6], hidden=[10], dropout=0.3), comparison_hidden=[8]),
    "gelu": lambda: SiameseNetwork(
        CNNBody([4], paddings=1, hidden=[10]),
        activation="gelu",
        batch_norm=True,
        comparison_input="logits",
    ),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 2e-5)], ids=["float64", "float32"]
)
def test_pairs_step_by_step(body, dtype, tolerance):
    """In float32 the tolerance is that of rounding, which an epoch of Adam's steps makes larger."""
    torch.set_default_dtype(dtype)
    try:
        data = PairDataModule("digits", pairs=200, batch_size=20, seed=5)
        data.prepare_data()
        data.setup()
        members = [
            PairComparison(
                create(BODIES[body], stream(seed, "weights")),
                LambdaWeighting(0.8),
                Adam(lr=0.002),
                seed=seed,
            )
            for seed in (1, 2)
        ]
        ours = Training(members, [data, data])
        ours.network.to(dtype)
        theirs = members[1]
        theirs.train()
        theirs.set_mean_and_std(*data.mean_and_std)
        optimizer, masks, layers = (
            theirs.optimizer_recipe(theirs.network.parameters()),
            stream(2, "dropout"),
            dropout_layers(theirs.network),
        )
        pairs, order = ours.data("train_set"), torch.randperm(200, generator=stream(5, "order"))
        ours.trainer.optimizer = type(ours.trainer.optimizer)(ours.network.parameters(), 0.002)
        for rows in order.split(20):
            images, (target, digits) = (
                pairs.inputs[:, rows].to(dtype),
                (each[:, rows] for each in pairs.targets),
            )
            draw_masks(layers, 20, [masks])
            loss = theirs.aux(
                loss_parts(theirs.network(images[1]), digits[1], target[1, :, 0].long())
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            _, losses = ours.trainer.step(images, (target.to(dtype), digits))
            assert losses[1].item() == pytest.approx(loss.item(), rel=tolerance)
    finally:
        torch.set_default_dtype(torch.float32)


def test_pairs_by_the_command(command, tmp_path):
    arguments = [
        *PAIRS,
        "engine=framework,lightning",
        "data.validation=0.2",
        "-m",
        "seed=0..2",
        "sweep.plan=serial",
    ]
    assert command(*arguments)[0] == 0
    runs = folders(tmp_path / "outputs")
    for ours, theirs in zip(runs[:3], runs[3:], strict=True):
        assert (result(ours)["engine"], result(theirs)["engine"]) == ("framework", "lightning")
        for row, expected in zip(history(ours), history(theirs), strict=True):
            assert row == pytest.approx(expected, rel=1e-3, abs=1e-5)
        loaded = PairComparison.load_from_checkpoint(ours / "checkpoint.ckpt")
        expected = PairComparison.load_from_checkpoint(theirs / "checkpoint.ckpt")
        for (name, value), other in zip(
            loaded.state_dict().items(), expected.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(value, other, atol=1e-3, rtol=1e-2, msg=name)
    # as replicas the rounds are the same
    assert (
        command(
            *PAIRS,
            "engine=framework",
            "data.validation=0.2",
            "-m",
            "seed=0..2",
            output=tmp_path / "array",
        )[0]
        == 0
    )
    for ours, alone in zip(folders(tmp_path / "array"), runs[:3], strict=True):
        assert result(ours)["test/loss"] == pytest.approx(result(alone)["test/loss"], rel=1e-4)


def test_early_stopping_of_pairs_with_framework(command, tmp_path):
    arguments = [
        *[item for item in PAIRS if "epochs" not in item],
        "trainer.max_epochs=30",
        "data.validation=0.3",
        "early_stopping.patience=1",
    ]
    assert command(*arguments, "engine=framework", "seed=1")[0] == 0
    (run,) = folders(tmp_path / "outputs")
    errors = [row["validation/comparison_error"] for row in history(run)]
    assert (
        len(errors) < 30
        and result(run)["best_epoch"] == errors.index(min(errors)) == len(errors) - 2
    )
    assert result(run)["validation/comparison_error"] == min(errors)


def test_weights_there_and_back():
    networks = [create(BODIES["gelu"], stream(seed, "weights")) for seed in (1, 2)]
    copies = [create(BODIES["gelu"], stream(seed, "weights")) for seed in (3, 4)]
    copy_back(network_of(networks, []), copies)
    for network, copy in zip(networks, copies):
        for (name, value), other in zip(
            network.state_dict().items(), copy.state_dict().values(), strict=True
        ):
            assert torch.equal(value, other), name


def test_a_data_modules_sets_are_data_for_the_trainer():
    module = DiskDataModule(points=60, test_points=50, seed=3)
    module.setup()
    drawing = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    network = fw.mlp(2, [8], 1, drawing)
    trainer = fw.Trainer(
        network,
        fw.MSE(),
        fw.SGD(network.parameters(), 0.1),
        drawing,
        measure=fw.threshold_error(0.5),
    )
    assert [row["epoch"] for row in trainer.fit(module.train_set, 2)[1]] == [0, 1]
    wrong = (trainer.predict(module.test_set.inputs)[0] > 0.5) != (module.test_set.target > 0.5)
    assert trainer.evaluate(module.test_set)[0]["error"] == pytest.approx(
        100 * wrong.double().mean().item()
    )


def test_plots_of_the_disk(command, tmp_path, capsys):
    assert command(*DISK, "model.hidden=[4],[8,8]", "-m", "seed=0,1")[0] == 0
    (sweep,) = {path.parent.parent for path in folders(tmp_path / "outputs")}
    assert disk_plots.main([str(sweep)]) == 0
    assert capsys.readouterr().out.split() == [
        str(sweep / f"{name}.png") for name in ("curves", "points", "boundary", "width")
    ]
    assert all(
        (sweep / f"{name}.png").stat().st_size > 5000
        for name in ("curves", "points", "boundary", "width")
    )
    with np.load(next(sweep.glob("*/seed=0/boundary.npz"))) as file:
        assert file["epochs"].tolist() == [1, 2, 3] and file["inside"].shape == (3, 64, 64)
        inside = ((file["points"] - 0.5) ** 2).sum(1) < 1 / (2 * math.pi)
        assert np.array_equal(inside, file["labels"] == 1)
    (axes, *_) = disk_plots.figures(disk_plots.runs_of_the_disk(sweep))["curves"].axes[1:]
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {
        "model.hidden=[4] (n = 2)",
        "model.hidden=[8,8] (n = 2)",
    }
    assert disk_plots.main([str(tmp_path)]) == 2
    assert "is not accepted: a folder with finished runs of task=disk" in capsys.readouterr().err


def test_a_boundary_that_came_to_harm_leaves_the_plots_of_the_others(command, tmp_path, capsys):
    """Results from before the inventory, whose boundaries are found damaged when they are drawn."""
    assert command(*DISK, "-m", "seed=0,1")[0] == 0
    first, second = folders(tmp_path / "outputs")
    for run in (first, second):
        (run / "result.json").write_text(
            json.dumps({key: value for key, value in result(run).items() if key != "files"})
        )
    (first / "boundary.npz").write_bytes(b"no zip")
    with pytest.warns(
        DigitPairsWarning,
        match=f"{first / 'boundary.npz'} is damaged: File is not a zip file; it is left out",
    ):
        name, _ = disk_plots.first_boundary(disk_plots.runs_of_the_disk(first.parent.parent))
    assert name == "disk_mlp seed=1"


@pytest.mark.parametrize("experiment", ["disk_best", "skura/disk", "azzano/disk"])
def test_experiments_of_the_disk(command, tmp_path, experiment):
    short = ["data.points=40", "data.test_points=100"]
    assert command(f"experiment={experiment}", "smoke=on", *short)[0] == 0
    assert len(folders(tmp_path / "outputs")) == (4 if experiment == "azzano/disk" else 2)


CLUSTERS = {
    "sbatch -n 4": {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train"},
    "srun": {
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NAME": "train",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "3",
        "SLURM_JOB_ID": "7",
        "SLURM_NODELIST": "n[1-2]",
    },
    "torchrun": {
        "TORCHELASTIC_RUN_ID": "x",
        "GROUP_RANK": "1",
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "2",
    },
    "jsrun": {
        "LSB_JOBID": "1",
        "LSB_DJOB_RANKFILE": "/nowhere",
        "JSM_NAMESPACE_LOCAL_RANK": "1",
        "JSM_NAMESPACE_RANK": "3",
        "JSM_NAMESPACE_SIZE": "4",
    },
    "Kubeflow": {
        "KUBERNETES_PORT": "1",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "1",
        "WORLD_SIZE": "4",
        "RANK": "3",
    },
    "mpirun": {
        "OMPI_COMM_WORLD_RANK": "3",
        "OMPI_COMM_WORLD_SIZE": "4",
        "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    },
}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_run_is_one_process_on_a_cluster_too(monkeypatch, cluster):
    for name, value in CLUSTERS[cluster].items():
        monkeypatch.setenv(name, value)
    section = {"max_epochs": 1, "accelerator": "cpu", "precision": "32-true", "deterministic": True}
    check_trainer(section)
    trainer = make_trainer(section)
    assert (trainer.world_size, trainer.global_rank, trainer.is_global_zero) == (1, 0, True)
    with pytest.raises(InvalidValueError, match="trainer.plugins=x is not accepted"):
        check_trainer(section | {"plugins": "x"})
