"""Torch's own databases of modules and optimisers, put to the framework.

Each entry is compared with torch in forward, backward and the gradients of the parameters, or step
by step. `pytest -m '' -s` prints the table.
"""

import collections

import pytest
import torch

import framework as fw
from tests.framework_twins import assert_close, generator, normal

pytestmark = pytest.mark.long


def database(name: str):
    """A module of torch's databases.

    Its import forbids the whole process to set torch's backend flags, which Lightning does: so it
    is not imported with this file, and the flags are released again.
    """
    pytest.importorskip("expecttest")  # which torch's databases import
    module = pytest.importorskip(f"torch.testing._internal.{name}")
    setattr(torch.backends, "__allow_nonbracketed_mutation_flag", True)
    return module


class NotOfferedError(Exception):
    """The framework has no such setting; the message is the reason in the table."""


# How torch's settings are called here, by class; a setting that is not listed is not offered.
NAMES = {
    "Linear": {"in_features": "inputs", "out_features": "outputs", "bias": "bias"},
    "Conv2d": {
        "in_channels": "inputs", "out_channels": "outputs", "kernel_size": "kernel",
        "padding": "padding",
    },
    "MaxPool2d": {"kernel_size": "kernel", "stride": "stride", "padding": "padding"},
    "AvgPool2d": {
        "kernel_size": "kernel", "stride": "stride", "padding": "padding",
        "divisor_override": "divisor", "ceil_mode": "ceil_mode",
        "count_include_pad": "count_include_pad",
    },
    "BatchNorm1d": {
        "num_features": "channels", "eps": "eps", "momentum": "momentum", "affine": "affine",
    },
    "LayerNorm": {"normalized_shape": "units", "eps": "eps", "elementwise_affine": "affine"},
    "LeakyReLU": {"negative_slope": "slope"},
    "MSELoss": {"reduction": "reduction"},
    "L1Loss": {"reduction": "reduction"},
    "HuberLoss": {"reduction": "reduction"},
    "BCEWithLogitsLoss": {"reduction": "reduction", "weight": "weight"},
    "CrossEntropyLoss": {
        "reduction": "reduction", "weight": "class_weights", "ignore_index": "ignore_index",
        "label_smoothing": "label_smoothing",
    },
}  # fmt: skip  # a table
NAMES["BatchNorm2d"] = NAMES["BatchNorm1d"]
ORDER = {  # torch's names of positional arguments
    "Linear": ["in_features", "out_features"],
    "Conv2d": ["in_channels", "out_channels", "kernel_size"],
    "MaxPool2d": ["kernel_size", "stride", "padding"],
    "AvgPool2d": ["kernel_size", "stride", "padding"],
    "BatchNorm1d": ["num_features", "eps", "momentum", "affine", "track_running_stats"],
    "LayerNorm": ["normalized_shape", "eps", "elementwise_affine"],
    "LeakyReLU": ["negative_slope"],
    "GELU": ["approximate"],
    "Softmax": ["dim"],
}
ORDER["BatchNorm2d"] = ORDER["BatchNorm1d"]
KINDS = {
    "Linear": fw.Linear, "Conv2d": fw.Conv2d, "MaxPool2d": fw.MaxPool2d, "AvgPool2d": fw.AvgPool2d,
    "BatchNorm1d": fw.BatchNorm, "BatchNorm2d": fw.BatchNorm, "LayerNorm": fw.LayerNorm,
    "ReLU": fw.ReLU, "LeakyReLU": fw.LeakyReLU, "Tanh": fw.Tanh, "Sigmoid": fw.Sigmoid,
    "SELU": fw.SELU, "GELU": fw.GELU, "Softmax": fw.Softmax, "MSELoss": fw.MSE, "L1Loss": fw.L1,
    "HuberLoss": fw.Huber, "BCEWithLogitsLoss": fw.BinaryCrossEntropy,
    "CrossEntropyLoss": fw.CrossEntropy,
}  # fmt: skip  # a table
DEFAULTS = {"approximate": "none", "track_running_stats": True, "return_indices": False}
# The axes of torch's input besides the batch's; one without a batch is one row.
AXES = {"Linear": 1, "Conv2d": 3, "MaxPool2d": 3, "AvgPool2d": 3}


def own_of(name: str, arguments, axes: int) -> fw.Module | fw.Loss:
    settings = dict(zip(ORDER.get(name, []), arguments.args)) | arguments.kwargs
    if name == "Softmax" and settings.pop("dim") % max(axes, 1) != max(axes, 1) - 1:
        raise NotOfferedError("Softmax over another axis than the last")
    own = {}
    for key, value in settings.items():
        if key in DEFAULTS and value == DEFAULTS[key]:
            continue
        if key not in NAMES.get(name, {}):
            raise NotOfferedError(f"{name}({key}={value})")
        own[NAMES[name][key]] = value
    if name in ("Linear", "Conv2d"):
        own["generators"] = generator()
    made = KINDS[name](**own)
    return made.to(torch.float64) if isinstance(made, fw.Module) else made


def rows_of(x: torch.Tensor, axes: int | None) -> torch.Tensor:
    """Torch's tensor with the axis of replicas, and with that of rows if it has none."""
    batched = x.dim() > axes if axes is not None else x.dim() > 1
    x = x.detach()
    return x[None] if batched else x[None, None]


def copy_weights(own: fw.Module, twin: torch.nn.Module) -> None:
    for ours, theirs in zip(own.parameters(), twin.parameters(), strict=True):
        ours.data = in_our_order(own, theirs.detach()).reshape(ours.data.shape)


def in_our_order(own: fw.Module, values: torch.Tensor) -> torch.Tensor:
    """Torch's weight (outputs, inputs...) as (inputs, outputs), flat; other values as they are."""
    if isinstance(own, (fw.Linear, fw.Conv2d)):
        values = values.reshape(len(values), -1).mT
    return values.reshape(-1)


def compare_module(name: str, info, entry, training: bool) -> None:
    arguments, given = entry.constructor_input, entry.forward_input
    inputs = [x.detach().clone() for x in (*given.args, *given.kwargs.values())]
    own = own_of(name, arguments, inputs[0].dim())
    twin = info.module_cls(*arguments.args, **arguments.kwargs).double().train(training)
    if 0 in inputs[0].shape:
        raise NotOfferedError("an input without rows")
    x = inputs[0].requires_grad_()
    expected = twin(x, *inputs[1:])
    dy = torch.randn(expected.shape, dtype=torch.float64, generator=generator())
    if isinstance(own, fw.Loss):
        expected.sum().backward()
        y, dx = loss_and_gradient(name, own, *inputs)
        if expected.isnan().any():  # the mean over no rows, since each one is ignored
            assert y.isnan().any()
            return
        assert_close(y.reshape(expected.shape), expected)
        assert_close(dx.reshape(x.shape), x.grad)
        return
    own.train(training)
    copy_weights(own, twin)
    y = own.forward(rows_of(x, AXES.get(name)))
    assert_close(y.reshape(expected.shape), expected)
    if not training:
        return  # the framework has no backward in evaluation
    expected.backward(dy)
    assert_close(own.backward(dy.reshape(y.shape)).reshape(x.shape), x.grad)
    for ours, theirs in zip(own.parameters(), twin.parameters(), strict=True):
        assert_close(ours.grad.reshape(-1), in_our_order(own, theirs.grad))


def loss_and_gradient(name, loss, x, target) -> tuple[torch.Tensor, torch.Tensor]:
    """With classes on the last axis, and back."""
    x = x.detach()
    if name != "CrossEntropyLoss":
        y = loss.forward(rows_of(x, None), rows_of(target, None))
        return y, loss.backward()
    soft = target.is_floating_point()
    batched = x.dim() > 1
    x = x.movedim(1, -1)[None] if batched else x[None, None]
    target = target.movedim(1, -1) if soft else target
    y = loss.forward(x, target[None] if batched else target[None, None])
    dx = loss.backward()
    return y, dx[0].movedim(-1, 1) if batched else dx


def cases_of_modules():
    for info in database("common_modules").module_db:
        name = info.name.removeprefix("nn.")
        if name in KINDS:
            for training in (True, False):
                settings = {"device": "cpu", "dtype": torch.float64, "requires_grad": False}
                for entry in info.module_inputs_func(info, training=training, **settings):
                    yield name, info, entry, training


def report(title: str, table: dict, reasons: collections.Counter) -> tuple[int, int]:
    print(f"\n{title:20} entries  pass")
    for name, (entries, passed) in table.items():
        print(f"{name:20} {entries:7} {passed:5}")
    for reason, number in reasons.items():
        print(f"  not offered: {reason} ({number})")
    return sum(each[0] for each in table.values()), sum(each[1] for each in table.values())


def test_torchs_database_of_modules():
    torch.manual_seed(0)  # the databases draw their inputs
    table, reasons, failures = {}, collections.Counter(), []
    for name, *case in cases_of_modules():
        counts = table.setdefault(name, [0, 0])
        counts[0] += 1
        try:
            compare_module(name, *case)
            counts[1] += 1
        except NotOfferedError as error:
            reasons[str(error)] += 1
        except Exception as error:  # every failure is listed, and fails the test below
            failures.append(f"{name} {case[1].desc}: {type(error).__name__}: {error}")
    print("\n".join(failures))
    entries, passed = report("module", table, reasons)
    print(f"{passed} of {entries}")
    assert failures == []
    assert entries > 300 and passed >= 0.95 * entries


OPTIMIZERS = {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad"}


def compare_optimizer(kind: type, settings: dict) -> None:
    settings = {key: float(v) if torch.is_tensor(v) else v for key, v in settings.items()}
    own = dict(settings)
    if "initial_accumulator_value" in own:
        own["initial"] = own.pop("initial_accumulator_value")
    own.setdefault("lr", kind([torch.nn.Parameter(torch.ones(1))]).defaults["lr"])
    values = normal(1, 4, 3)
    parameter, twin = fw.Parameter(values.clone()), torch.nn.Parameter(values.clone())
    ours, theirs = getattr(fw, kind.__name__)([parameter], **own), kind([twin], **settings)
    for step in range(8):
        parameter.grad = (3 * parameter.data + step).sin()
        twin.grad = (3 * twin.detach() + step).sin()
        ours.step()
        theirs.step()
    assert_close(parameter.data, twin)


def test_torchs_database_of_optimisers():
    table = {}
    for info in database("common_optimizers").optim_db:
        name = info.optim_cls.__name__
        if name in OPTIMIZERS:
            for entry in info.optim_inputs_func(device="cpu"):
                compare_optimizer(info.optim_cls, entry.kwargs)
                counts = table.setdefault(name, [0, 0])
                counts[0] += 1
                counts[1] += 1
    entries, passed = report("optimiser", table, collections.Counter())
    print(f"{passed} of {entries}")
    assert entries == passed > 30
