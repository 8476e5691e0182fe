"""A run's bits do not depend on how its sweep is carried out: on one thread, under every plan."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning.loggers.logger import DummyLogger

from digitpairs.cli import CONF
from digitpairs.engines import Run, get_engine
from digitpairs.networks.layers import ACTIVATIONS
from digitpairs.sweeps.compose import compose_command
from digitpairs.sweeps.jobs import plan_jobs
from tests.processes import children_of, launch, session_has_ended, wait_for

PAIRS = (
    "data=digits",
    "data.pairs=71",
    "data.validation=0.2",
    "data.batch_size=16",
    "trainer.max_epochs=2",
)  # 57 training pairs: a last batch of 9
AUGMENTED = "data.augmentation={shift:1,rotation:10,scale:0.1,shear:5,elastic:0.5,swap:0.3}"
CASES = {
    "mlp": ("model=siamese_mlp",),
    "cnn": ("model=siamese_cnn",),
    "batch norm, dropout": ("model=siamese_cnn", "model.batch_norm=true", "model.body.dropout=0.3"),
    "augmentation": ("model=siamese_mlp", AUGMENTED),
    "single pairs": (
        "model=siamese_mlp",
        "data.batch_size=1",
        "data.pairs=20",
        "trainer.max_epochs=1",
    ),
    "joint, single pairs": (
        "model=mlp",
        "data.batch_size=1",
        "data.pairs=20",
        "trainer.max_epochs=1",
    ),
    "odd widths": (
        "model=siamese_mlp",
        "model.body.hidden=[13,7]",
        "model.comparison_hidden=[5]",
        "optimizer=adamw",
    ),
    "gelu": ("model=siamese_cnn", "model.activation=gelu", "optimizer=adamw"),
    "sigmoid": (
        "model=siamese_mlp",
        "model.body.hidden=[13]",
        "model.activation=sigmoid",
        "optimizer=sgd",
    ),
}
MORE_CASES = {
    "joint cnn": ("model=cnn",),
    "unshared": ("model=siamese_cnn", "model.sharing=false"),
    "resnet": ("model=siamese_resnet", "data.pairs=40", "trainer.max_epochs=1"),
    "tanh": ("model=siamese_mlp", "model.body.hidden=[13]", "model.activation=tanh"),
    "selu": ("model=siamese_cnn", "model.activation=selu"),
    "leaky relu": ("model=siamese_cnn", "model.activation=leaky_relu"),
    "two outputs": ("model=siamese_mlp", "model.comparison_outputs=2"),
    "posterior": ("model=siamese_mlp", "model.comparison_input=posterior"),
    "one-hot": ("model=siamese_mlp", "model.comparison_input=onehot"),
    "features": ("model=siamese_cnn", "model.comparison_input=features", "model.digit_head=joint"),
    "momentum": (
        "model=siamese_mlp",
        "optimizer=sgd",
        "optimizer.momentum=0.9",
        "optimizer.nesterov=true",
        "optimizer.weight_decay=0.01",
    ),
    "uncertainty": ("model=siamese_mlp", "aux=uncertainty"),
    "dwa": ("model=siamese_mlp", "aux=dwa"),
    "random weights": ("model=siamese_mlp", "aux=random"),
    "clipping": ("model=siamese_mlp", "trainer.gradient_clip_val=0.1"),
    "smoothing": ("model=siamese_mlp", "label_smoothing=0.1"),
    "early stopping": ("model=siamese_mlp", "early_stopping.patience=1", "trainer.max_epochs=8"),
    "two stages": ("model=siamese_mlp", "two_stage=0.5", "trainer.max_epochs=4"),
    "bf16": ("model=siamese_cnn", "trainer.precision=bf16-mixed"),
    "float64": ("model=siamese_mlp", "trainer.precision=64-true"),
    "batch norm, gelu, augmentation": (
        "model=siamese_cnn",
        "model.batch_norm=true",
        "model.activation=gelu",
        AUGMENTED,
    ),
    "coukos": ("model=coukos/cnn", "optimizer=sgd"),
    "wang": ("model=wang/convnet", "aux=none"),
}


def trained(configs: list[dict], size: int) -> list[Run]:
    """The runs, trained in arrays of this size."""
    runs: list[Run] = []
    for start in range(0, len(configs), size):
        part = configs[start : start + size]
        runs += get_engine(part[0]).train(part, [DummyLogger() for _ in part])
    return runs


def configs_of(settings: tuple[str, ...], seeds: int) -> list[dict]:
    own = {setting.partition("=")[0] for setting in settings}
    base = [setting for setting in PAIRS if setting.partition("=")[0] not in own]
    return [
        job.config
        for job in plan_jobs(compose_command(CONF, [*base, *settings, f"seed=range({seeds})"]))
    ]


def assert_one_answer(settings: tuple[str, ...], sizes: tuple[int, ...], seeds: int) -> None:
    configs = configs_of(settings, seeds)
    alone = trained(configs, 1)
    for size in sizes:
        for run, other in zip(alone, trained(configs, size)):
            assert run.history == other.history and run.test_metrics == other.test_metrics
            assert run.files == other.files and run.checkpoint() == other.checkpoint()


@pytest.mark.parametrize("name", CASES)
def test_a_run_has_the_same_bits_alone_and_in_arrays(name):
    assert_one_answer(CASES[name], sizes=(2, 3), seeds=3)


@pytest.mark.long
@pytest.mark.parametrize("name", [*CASES, *MORE_CASES])
def test_a_run_has_the_same_bits_in_arrays_of_every_size(name):
    sizes = (1,) if name == "resnet" else (1, 2, 3, 4, 5, 17)
    assert_one_answer((CASES | MORE_CASES)[name], sizes, seeds=17 if len(sizes) > 1 else 2)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(3, 7, 5), (2, 14, 184), (3, 5, 4, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_activation_rounds_an_element_the_same_in_every_place(name, shape, dtype):
    generator, activation = torch.Generator().manual_seed(0), ACTIVATIONS[name]()
    values, upstream = (3 * torch.randn(2, *shape, generator=generator, dtype=torch.float64)).to(
        dtype
    )
    for layout in (lambda x: x, lambda x: x.mT.contiguous().mT):
        inputs = layout(values).requires_grad_()
        outputs = activation(inputs)
        (gradient,) = torch.autograd.grad(outputs, inputs, layout(upstream))
        assert outputs.stride() == inputs.stride() == gradient.stride()
        for member in range(len(values)):
            own = layout(values[member : member + 1]).requires_grad_()
            alone = activation(own)
            (own_gradient,) = torch.autograd.grad(alone, own, layout(upstream[member : member + 1]))
            assert torch.equal(alone[0], outputs[member]) and torch.equal(
                own_gradient[0], gradient[member]
            )


def test_activations_are_torchs():
    functions = {
        "relu": F.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "selu": F.selu,
        "gelu": F.gelu,
        "leaky_relu": F.leaky_relu,
    }
    inputs = torch.linspace(-4, 4, 101)[None]
    for name, function in functions.items():
        torch.testing.assert_close(ACTIVATIONS[name]()(inputs), function(inputs))


PLANS = {
    "serial": ("sweep.plan=serial",),
    "processes": ("sweep.plan=processes", "sweep.processes=2"),
    "arrays of 1": ("sweep.array_size=1",),
    "arrays of 2": ("sweep.plan=array", "sweep.array_size=2"),
    "arrays of 5": ("sweep.plan=array", "sweep.array_size=5", "sweep.processes=1"),
}
DISK = ("task=disk", "data.points=300", "trainer.max_epochs=3")
TASKS = {name: CASES[name] for name in ("mlp", "cnn", "batch norm, dropout", "augmentation")} | {
    "disk": DISK,
    "disk, single points": (*DISK, "data.points=60", "data.batch_size=1"),
}
EQUAL = (
    "checkpoint.ckpt",
    "metrics.csv",
    "confusion.json",
    "boundary.npz",
)  # files that are equal byte for byte
OF_THE_PLAN = (
    "seconds",
    "array_size",
    "files",
)  # keys of a result that are not; of the files two have times and places in them


def sweep_of(task: str) -> list[str]:
    """The overrides of a sweep of five seeds."""
    settings = dict(each.split("=", 1) for each in (() if "disk" in task else PAIRS))
    settings |= dict(each.split("=", 1) for each in TASKS[task])
    return ["-m", "seed=0..4", *(f"{key}={value}" for key, value in settings.items())]


def left(output: Path) -> dict[str, Any]:
    """What must not depend on the plan, by the run's folder and file."""
    found: dict[str, Any] = {}
    for path in output.glob("*/*/seed=*/*"):
        name = "/".join(path.parts[-3:])
        if path.name in EQUAL:
            found[name] = path.read_bytes()
        elif path.name == "result.json":
            result = json.loads(path.read_text())
            found[name] = {key: value for key, value in result.items() if key not in OF_THE_PLAN}
    return found


@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
def test_a_sweep_leaves_the_same_files_under_every_plan(task, command, tmp_path):
    found = {}
    for plan, settings in PLANS.items():
        status, _, err = command(*sweep_of(task), *settings, output=tmp_path / plan)
        assert status == 0, err
        found[plan] = left(tmp_path / plan)
    assert len(found["serial"]) == 5 * 4
    for plan, files in found.items():
        assert files == found["serial"], plan


KILLS = 17  # of each task and plan: a hundred and two
VICTIMS = {
    "command": lambda process: os.kill(process.pid, signal.SIGKILL),
    "group": lambda process: os.killpg(process.pid, signal.SIGKILL),
    "worker": lambda process: os.kill((children_of(process) or [process.pid])[0], signal.SIGKILL),
}


@pytest.mark.long
@pytest.mark.parametrize("task", ["batch norm, dropout", "disk"])
@pytest.mark.parametrize("plan", ["serial", "processes", "arrays of 2"])
def test_a_sweep_killed_at_random_ends_with_the_files_of_an_unbroken_one(task, plan, tmp_path):
    epochs = "trainer.max_epochs=40" if task == "disk" else "trainer.max_epochs=8"
    sweep = [each for each in sweep_of(task) if "max_epochs" not in each] + [epochs, *PLANS[plan]]
    started = time.monotonic()
    assert launch(*sweep, f"output={tmp_path / 'unbroken'}").wait() == 0
    duration, expected = time.monotonic() - started, left(tmp_path / "unbroken")
    moment, killed, kills = random.Random(plan), tmp_path / "killed", 0
    while True:
        process = launch(*sweep, f"output={killed}")
        wait_for(lambda: process.poll() is not None or list(killed.glob("*/.holder.json")))
        time.sleep(moment.uniform(0, 0.3 * duration))
        if kills < KILLS and process.poll() is None:
            VICTIMS[list(VICTIMS)[kills % 3]](process)
            kills += 1
        _, err = process.communicate()
        wait_for(lambda: session_has_ended(process), 3)
        found = left(killed)
        assert found == {name: expected[name] for name in found}, err
        if len(found) == len(expected):
            if kills == KILLS:
                return
            shutil.rmtree(killed)  # it has finished in spite of all: once more
