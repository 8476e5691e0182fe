"""On one thread the bits of a run are the same under every plan of its sweep."""

from __future__ import annotations

import contextlib
import functools
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
from tests.processes import Command, wait_for

# 57 training pairs: the last batch has 9
PAIRS = "data=digits data.pairs=71 data.validation=0.2 data.batch_size=16 trainer.max_epochs=2"
SINGLE_PAIRS = "data.batch_size=1 data.pairs=20 trainer.max_epochs=1"
AUGMENTED = "data.augmentation={shift:1,rotation:10,scale:0.1,shear:5,elastic:0.5,swap:0.3,erase:4}"
LEARNED = "model.comparison_input=probabilities"
ODD_WIDTHS = f"{LEARNED} model.body.hidden=[13,7] model.comparison_hidden=[5]"
TWO_OUTPUTS = f"{LEARNED} model.comparison_outputs=2"
RESIDUAL = "model.body.channels=[6,10] model.body.blocks=[1,2] model.body.dropout=0.2"
SMALL_RESIDUAL = f"{RESIDUAL} model.body.squeeze=2 model.body.drop_path=0.3"
CASES = {
    "mlp": "model=siamese_mlp",
    "cnn": "model=siamese_cnn",
    "learned comparison": f"model=siamese_cnn {LEARNED} model.comparison_hidden=[64]",
    "batch norm, dropout": "model=siamese_cnn model.batch_norm=true model.body.dropout=0.3",
    "augmentation": f"model=siamese_mlp {AUGMENTED}",
    "single pairs": f"model=siamese_mlp {SINGLE_PAIRS}",
    "joint, single pairs": f"model=mlp {SINGLE_PAIRS}",
    "odd widths": f"model=siamese_mlp {ODD_WIDTHS} optimizer=adamw",
    "gelu": "model=siamese_cnn model.activation=gelu optimizer=adamw",
    "sigmoid": "model=siamese_mlp model.body.hidden=[13] model.activation=sigmoid optimizer=sgd",
    "temperatures": "model=siamese_mlp model.body.hidden=[13] calibrate=temperature",
    "moving average": f"model=siamese_cnn model.batch_norm=true {ODD_WIDTHS} ema=0.9",
    "views": f"model=siamese_mlp {ODD_WIDTHS} tta=3",
    "ensemble": (
        f"model=siamese_cnn model.batch_norm=true model.body.dropout=0.3 {ODD_WIDTHS} "
        "ensemble_size=3"
    ),
    "redraw": f"model=siamese_mlp {ODD_WIDTHS} data.redraw=true",
    "residual": f"model=siamese_residual {SMALL_RESIDUAL}",
}
MOMENTUM = "optimizer=sgd optimizer.momentum=0.9 optimizer.nesterov=true"
MORE_CASES = {
    "joint cnn": "model=cnn",
    "unshared": "model=siamese_cnn model.sharing=false",
    "resnet": "model=siamese_resnet data.pairs=40 trainer.max_epochs=1",
    "tanh": "model=siamese_mlp model.body.hidden=[13] model.activation=tanh",
    "selu": "model=siamese_cnn model.activation=selu",
    "leaky relu": "model=siamese_cnn model.activation=leaky_relu",
    "two outputs": f"model=siamese_mlp {TWO_OUTPUTS}",
    "posterior": "model=siamese_mlp model.comparison_input=posterior model.comparison_hidden=[]",
    "one-hot": "model=siamese_mlp model.comparison_input=onehot",
    "features": "model=siamese_cnn model.comparison_input=features model.digit_head=joint",
    "momentum": f"model=siamese_mlp {MOMENTUM} optimizer.weight_decay=0.01",
    "uncertainty": "model=siamese_mlp aux=uncertainty",
    "dwa": "model=siamese_mlp aux=dwa",
    "random weights": "model=siamese_mlp aux=random",
    "clipping": "model=siamese_mlp trainer.gradient_clip_val=0.1",
    "smoothing": "model=siamese_mlp label_smoothing=0.1",
    "early stopping": "model=siamese_mlp early_stopping.patience=1 trainer.max_epochs=8",
    "two stages": "model=siamese_mlp two_stage=0.5 trainer.max_epochs=4",
    "bf16": "model=siamese_cnn trainer.precision=bf16-mixed",
    "two outputs, bf16": (f"model=siamese_cnn {TWO_OUTPUTS} trainer.precision=bf16-mixed"),
    "float64": "model=siamese_mlp trainer.precision=64-true",
    "batch norm, gelu, augmentation": (
        f"model=siamese_cnn model.batch_norm=true model.activation=gelu {AUGMENTED}"
    ),
    "views of the posterior": "model=siamese_cnn tta=8",
    "views of two outputs": f"model=siamese_cnn {TWO_OUTPUTS} tta=2",
    "views, bf16": "model=siamese_cnn tta=2 trainer.precision=bf16-mixed",
    "redraw, images paired again": (
        "model=siamese_mlp data.redraw=true data.pairs=1000 data.batch_size=300"
    ),
    "redraw, augmentation": f"model=siamese_mlp data.redraw=true {AUGMENTED}",
    "ensemble, posterior, average, views": (
        "model=siamese_mlp model.comparison_input=posterior model.comparison_hidden=[] "
        "ensemble_size=2 ema=0.9 tta=2 label_smoothing=0.1 calibrate=temperature"
    ),
    "ensemble, two outputs": f"model=siamese_cnn {TWO_OUTPUTS} ensemble_size=2",
    "ensemble, joint": f"model=mlp ensemble_size=2 {SINGLE_PAIRS}",
    "ensemble, uncertainty": "model=siamese_mlp aux=uncertainty ensemble_size=2",
    "ensemble, random weights": "model=siamese_mlp aux=random ensemble_size=2",
    "ensemble, two stages": "model=siamese_mlp two_stage=0.5 trainer.max_epochs=4 ensemble_size=2",
    "ensemble, early stopping": (
        "model=siamese_mlp early_stopping.patience=1 trainer.max_epochs=8 ensemble_size=2"
    ),
    "ensemble, clipping": "model=siamese_mlp trainer.gradient_clip_val=0.1 ensemble_size=2",
    "ensemble, bf16": "model=siamese_cnn ensemble_size=2 trainer.precision=bf16-mixed",
    "residual, gelu, max": (
        f"model=siamese_residual {SMALL_RESIDUAL} model.activation=gelu optimizer=adamw "
        "model.body.global_pool=max"
    ),
    "residual, bf16": f"model=siamese_residual {SMALL_RESIDUAL} trainer.precision=bf16-mixed",
    "coukos": "model=coukos/cnn optimizer=sgd",
    "wang": "model=wang/convnet aux=none",
}


def trained(configs: list[dict], size: int) -> list[Run]:
    """The runs of the configs, trained in arrays of this size."""
    runs: list[Run] = []
    for start in range(0, len(configs), size):
        array = configs[start : start + size]
        runs += get_engine(array[0]).train(array, [DummyLogger() for _ in array])
    return runs


def with_defaults(settings: str) -> list[str]:
    """The overrides of the settings, and those of `PAIRS` with other keys."""
    overrides = {each.partition("=")[0]: each for each in f"{PAIRS} {settings}".split()}
    return list(overrides.values())


def assert_one_answer(settings: str, sizes: tuple[int, ...], seeds: int) -> None:
    requests = compose_command(CONF, [*with_defaults(settings), f"seed=range({seeds})"])
    configs = [job.config for job in plan_jobs(requests)]
    alone = trained(configs, 1)
    for size in sizes:
        for run, other in zip(alone, trained(configs, size)):
            assert run.history == other.history and run.test_metrics == other.test_metrics
            assert run.files == other.files and run.checkpoint() == other.checkpoint()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_run_has_the_same_bits_alone_and_in_arrays(name):
    assert_one_answer(CASES[name], sizes=(3,), seeds=3)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*images are paired more than once")
@pytest.mark.parametrize("name", [*CASES, *MORE_CASES])
def test_a_run_has_the_same_bits_in_arrays_of_every_size(name):
    settings = (CASES | MORE_CASES)[name]
    if name == "resnet":
        assert_one_answer(settings, sizes=(1,), seeds=2)
    else:
        assert_one_answer(settings, sizes=(1, 2, 3, 4, 5, 17), seeds=17)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(3, 7, 5), (2, 14, 184), (3, 5, 4, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "layout", [lambda x: x, lambda x: x.mT.contiguous().mT], ids=["rows", "columns"]
)
def test_an_activation_rounds_an_element_the_same_in_every_place(name, shape, dtype, layout):
    activation = ACTIVATIONS[name]()
    random = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, upstream = (3 * random).to(dtype)
    inputs = layout(values).requires_grad_()
    outputs = activation(inputs)
    (gradient,) = torch.autograd.grad(outputs, inputs, layout(upstream))
    assert outputs.stride() == inputs.stride() == gradient.stride()
    for member in range(len(values)):
        own_inputs = layout(values[member : member + 1]).requires_grad_()
        own_outputs = activation(own_inputs)
        own_upstream = layout(upstream[member : member + 1])
        (own_gradient,) = torch.autograd.grad(own_outputs, own_inputs, own_upstream)
        assert torch.equal(own_outputs[0], outputs[member])
        assert torch.equal(own_gradient[0], gradient[member])


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
    "serial": ["sweep.plan=serial"],
    "processes": ["sweep.plan=processes", "sweep.processes=2"],
    "arrays of 1": ["sweep.array_size=1"],
    "arrays of 2": ["sweep.plan=array", "sweep.array_size=2"],
    "arrays of 5": ["sweep.plan=array", "sweep.array_size=5", "sweep.processes=1"],
}
PAIRS_CASES = ("mlp", "cnn", "batch norm, dropout", "augmentation")
TASKS = {name: with_defaults(CASES[name]) for name in PAIRS_CASES} | {
    "disk": ["task=disk", "data.points=300", "trainer.max_epochs=3"],
    "disk, single points": [
        "task=disk",
        "data.points=60",
        "data.batch_size=1",
        "trainer.max_epochs=3",
    ],
}
FIVE_SEEDS = ["-m", "seed=0..4"]
# Files that are equal byte for byte
EQUAL = ("checkpoint.ckpt", "metrics.csv", "confusion.json", "boundary.npz")
# Entries of a result that are not equal: two of the listed files have times and paths in them
OF_THE_PLAN = ("seconds", "array_size", "files")


def results_of(output: Path) -> dict[str, Any]:
    """What must not depend on the plan, by the run's folder and file."""
    results: dict[str, Any] = {}
    for path in output.glob("*/*/seed=*/*"):
        name = "/".join(path.parts[-3:])
        if path.name in EQUAL:
            results[name] = path.read_bytes()
        elif path.name == "result.json":
            result = json.loads(path.read_text())
            results[name] = {key: value for key, value in result.items() if key not in OF_THE_PLAN}
    return results


@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
def test_a_sweep_leaves_the_same_files_under_every_plan(task, command, tmp_path):
    results = {}
    for plan, settings in PLANS.items():
        status, _, err = command(*TASKS[task], *FIVE_SEEDS, *settings, output=tmp_path / plan)
        assert status == 0, err
        results[plan] = results_of(tmp_path / plan)
    assert len(results["serial"]) == 5 * 4
    for plan, files in results.items():
        assert files == results["serial"], plan


def kill_worker(process: Command) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.kill((process.children() or [process.pid])[0], signal.SIGKILL)


KILLS = 17  # for each task and plan
KILL = [Command.kill, Command.kill_session, kill_worker]


@pytest.mark.long
@pytest.mark.parametrize("task", ["batch norm, dropout", "disk"])
@pytest.mark.parametrize("plan", ["serial", "processes", "arrays of 2"])
def test_a_sweep_killed_at_random_ends_with_the_files_of_an_unbroken_one(
    task, plan, launch, tmp_path
):
    epochs = f"trainer.max_epochs={40 if task == 'disk' else 8}"
    settings = [setting for setting in TASKS[task] if "max_epochs" not in setting]
    sweep = [*settings, epochs, *FIVE_SEEDS, *PLANS[plan]]
    started = time.monotonic()
    unbroken = launch(*sweep, f"output={tmp_path / 'unbroken'}")
    unbroken.join()
    assert unbroken.exitcode == 0
    duration, expected = time.monotonic() - started, results_of(tmp_path / "unbroken")
    random_moments, output, kills = random.Random(plan), tmp_path / "killed", 0
    while True:
        process = launch(*sweep, f"output={output}")
        wait_for(functools.partial(has_started_or_ended, process, output))
        time.sleep(random_moments.uniform(0, 0.3 * duration))
        if kills < KILLS and process.exitcode is None:
            KILL[kills % 3](process)
            kills += 1
        process.join()
        wait_for(process.session_has_ended, 3)
        results = results_of(output)
        assert results == {name: expected[name] for name in results}
        if len(results) == len(expected):
            if kills == KILLS:
                return
            shutil.rmtree(output)  # it has finished in spite of the kills: once more


def has_started_or_ended(process: Command, output: Path) -> bool:
    return process.exitcode is not None or bool(list(output.glob("*/.holder.json")))
