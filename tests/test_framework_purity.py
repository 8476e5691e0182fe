"""The framework is of tensors alone: nothing ready-made, no automatic differentiation, nothing of digitpairs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FORBIDDEN_NAMES = re.compile(  # by their full names, and whatever is below them
    r"torch\.(nn|optim|autograd|func|ops|_C|_VF|jit|compile|vmap|fx|onnx|conv\w*|\w*max_pool\w*|\w*avg_pool\w*|\w*batch_norm\w*|\w*dropout\w*"
    r"|layer_norm|group_norm|instance_norm|native_\w+|cudnn_\w+|mkldnn_\w+|mse_loss|binary_cross_entropy\w*|enable_grad|set_grad_enabled|_fused_\w+)(\.|$)"
    r"|digitpairs(\.|$)|functorch(\.|$)|pytorch_lightning(\.|$)|torchvision(\.|$)"
)
FORBIDDEN_ATTRIBUTES = {
    "requires_grad",
    "requires_grad_",
    "autograd",
    "grad_fn",
    "retain_grad",
    "register_hook",
    "is_leaf",
    "functional",
}


def offences(source: str) -> list[str]:
    """What a module has that it must not have: full names through whatever alias, attributes and keywords of autograd."""
    tree, aliases, found = ast.parse(source), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                aliases[(each.asname or each.name).split(".")[0]] = (
                    each.name if each.asname else each.name.split(".")[0]
                )
                found.append(each.name)
        elif isinstance(node, ast.ImportFrom):
            for each in node.names:
                aliases[each.asname or each.name] = f"{node.module}.{each.name}"
                found.append(f"{node.module}.{each.name}")
    found += [
        full_name(node, aliases)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Attribute, ast.Name))
    ]
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    attributes |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    attributes |= {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }  # getattr(x, "...")
    return [name for name in found if FORBIDDEN_NAMES.match(name)] + sorted(
        attributes & FORBIDDEN_ATTRIBUTES
    )


def full_name(node: ast.AST, aliases: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{full_name(node.value, aliases)}.{node.attr}"
    return aliases.get(node.id, node.id) if isinstance(node, ast.Name) else ""


FILES = sorted((ROOT / "framework").rglob("*.py"))


@pytest.mark.parametrize(
    "file", FILES, ids=[str(file.relative_to(ROOT / "framework")) for file in FILES]
)
def test_the_framework_uses_nothing_ready_made(file: Path):
    assert len(FILES) > 10
    assert offences(file.read_text()) == []


READY_MADE = [  # after "import torch"
    "from torch import nn", "import torch.nn as layers", "import torch.nn.functional", "from torch.nn import functional as F",
    "torch.nn.Linear(2, 3)", "import torch as t; t.optim.SGD", "from torch import optim as o", "from torch.optim.lr_scheduler import StepLR",
    "torch.autograd.grad(x, y)", "from torch.autograd import Function", "from torch import func", "torch.ops.aten.add", "x.requires_grad_()",
    "x.requires_grad = True", "torch.zeros(2, requires_grad=True)", "setattr(x, 'requires_grad', True)", "torch.conv2d(x, w)",
    "from torch import max_pool2d", "torch.max_pool2d_with_indices", "torch.native_batch_norm(x)", "torch.dropout(x, 0.5, True)",
    "torch.feature_dropout", "torch._fused_adam_(p)", "getattr(torch, 'autograd')", "import digitpairs", "from digitpairs.networks import layers",
]  # fmt: skip
TENSOR_OPERATIONS = [
    "torch.bmm(x, w)",
    "from torch import Tensor",
    "self.dropout = 0.5",
    "loss.backward()",
    "x.relu()",
    "from framework import optimizers",
]


@pytest.mark.parametrize("source", READY_MADE)
def test_what_is_ready_made_would_be_found(source):
    assert offences(f"import torch\n{source}")


@pytest.mark.parametrize("source", TENSOR_OPERATIONS)
def test_what_is_a_tensor_operation_is_let_through(source):
    assert offences(f"import torch\n{source}") == []


TRAINING = """
import gc, sys
import torch
import framework as f

torch.set_num_threads(1)

def refused(*args, **kwargs):
    raise AssertionError("torch differentiated something")

torch.Tensor.backward = torch.autograd.backward = torch.autograd.grad = refused
torch.Tensor.requires_grad_ = refused
generators = lambda: [torch.Generator().manual_seed(seed) for seed in range(2)]
g = generators()
body = f.Sequential(f.Conv2d(1, 2, 3, g), f.BatchNorm(2, 2), f.GELU(), f.MaxPool2d(2), f.Flatten(), f.Dropout(0.2, g), f.Linear(8, 10, g))
network, loss = f.Siamese(body, f.mlp(20, [6], 1, g)), f.PairLoss(torch.ones(3))
optimizer = f.Adam(network.parameters(), 0.01)
assert torch.is_grad_enabled()  # if anything here could be recorded, it would be
x, digits = torch.randn(2, 12, 2, 6, 6), torch.randint(10, (2, 12, 2))
targets = (digits[..., :1] <= digits[..., 1:]).float(), digits
losses = []
for _ in range(40):
    optimizer.zero_grad()
    answer = network.forward(x)
    value = loss.forward(answer, targets)
    losses.append(value.sum().item())
    tensors = [each for each in gc.get_objects() if isinstance(each, torch.Tensor)]  # with all that forward keeps
    assert len(tensors) > 30 and not any(each.requires_grad or each.grad_fn is not None for each in tensors)
    network.backward(loss.backward())
    optimizer.step()
assert losses[-1] < 0.8 * losses[0], losses
trainer = f.Trainer(network, loss, optimizer, generators(), batch_size=5)
trainer.fit((x, targets), 2)
tensors = [each for each in gc.get_objects() if isinstance(each, torch.Tensor)]
assert not any(each.requires_grad or each.grad_fn is not None for each in tensors)
print("modules", [name for name in sys.modules if name.split(".")[0] == "digitpairs"])
"""


def test_a_network_trains_without_any_tensor_that_requires_a_gradient():
    done = subprocess.run(
        [sys.executable, "-c", TRAINING], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "modules []"
