"""The framework uses tensors alone: no layers of torch, no autograd, nothing of digitpairs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import framework
from tests.conftest import ROOT

FORBIDDEN_NAMES = re.compile(  # with all names below them
    r"torch\.(nn|optim|autograd|func|ops|_C|_VF|jit|compile|vmap|fx|onnx|conv\w*|\w*max_pool\w*"
    r"|\w*avg_pool\w*|\w*batch_norm\w*|\w*dropout\w*|layer_norm|group_norm|instance_norm"
    r"|native_\w+|cudnn_\w+|mkldnn_\w+|mse_loss|binary_cross_entropy\w*|enable_grad"
    r"|set_grad_enabled|_fused_\w+)(\.|$)"
    r"|(digitpairs|functorch|pytorch_lightning|torchvision)(\.|$)"
)
FORBIDDEN_ATTRIBUTES = re.compile(
    r"(requires_grad_?|autograd|grad_fn|retain_grad|register_hook|is_leaf|functional)$"
)


def offences(source: str) -> list[str]:
    """The forbidden names in a module, whatever their aliases, and attributes of autograd."""
    nodes = list(ast.walk(ast.parse(source)))
    aliases, names, attributes = {}, [], []
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for each in node.names:
                names.append(prefix + each.name)
                package = each.name.split(".")[0]  # which "import a.b" binds
                bound = each.name if each.asname or prefix else package
                aliases[each.asname or bound] = prefix + bound
    for node in nodes:
        if isinstance(node, (ast.Attribute, ast.Name)):
            names.append(full_name(node, aliases))
        if isinstance(node, ast.Attribute):
            reads = isinstance(node.ctx, ast.Load) and node.attr == "requires_grad"
            attributes.append("" if reads else node.attr)  # an input that has it is refused
        elif isinstance(node, ast.keyword):
            attributes.append(node.arg or "")
        elif isinstance(node, ast.Constant):
            attributes.append(str(node.value))  # as in getattr(x, "...")
    forbidden = [name for name in names if FORBIDDEN_NAMES.match(name)]
    return forbidden + [name for name in attributes if FORBIDDEN_ATTRIBUTES.match(name)]


def full_name(node: ast.AST, aliases: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{full_name(node.value, aliases)}.{node.attr}"
    return aliases.get(node.id, node.id) if isinstance(node, ast.Name) else ""


FILES = sorted((ROOT / "framework").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_framework_has_no_offences(file: Path):
    assert len(FILES) > 10
    assert offences(file.read_text()) == []


OFFENCES = [
    "from torch import nn", "import torch.nn as layers", "import torch.nn.functional",
    "from torch.nn import functional as F", "torch.nn.Linear(2, 3)", "from torch import optim as o",
    "import torch as t; t.optim.SGD", "from torch.optim.lr_scheduler import StepLR",
    "torch.autograd.grad(x, y)", "from torch.autograd import Function", "from torch import func",
    "torch.ops.aten.add", "x.requires_grad_()", "x.requires_grad = True",
    "torch.zeros(2, requires_grad=True)", "setattr(x, 'requires_grad', True)", "torch.conv2d(x, w)",
    "from torch import max_pool2d", "torch.max_pool2d_with_indices", "torch.native_batch_norm(x)",
    "torch.dropout(x, 0.5, True)", "torch.feature_dropout", "torch._fused_adam_(p)",
    "getattr(torch, 'autograd')", "import digitpairs", "from digitpairs.networks import layers",
]  # fmt: skip  # several short sources a line
TENSOR_OPERATIONS = [
    "torch.bmm(x, w)", "from torch import Tensor", "self.dropout = 0.5", "loss.backward()",
    "if x.requires_grad: raise ValueError", "x.relu()", "from framework import optimizers",
]  # fmt: skip  # several short sources a line


@pytest.mark.parametrize("source", OFFENCES)
def test_offence_is_found(source):
    assert offences(f"import torch\n{source}")


@pytest.mark.parametrize("source", TENSOR_OPERATIONS)
def test_tensor_operation_is_accepted(source):
    assert offences(f"import torch\n{source}") == []


def test_the_reading_order_is_complete_and_each_file_uses_only_files_above_it():
    above: list[str] = []
    for name in re.findall(r"^    (\w+)  ", framework.__doc__, re.MULTILINE):
        source = (ROOT / "framework" / f"{name}.py").read_text(encoding="utf-8")
        used = re.findall(r"^from framework\.(\w+) import", source, re.MULTILINE)
        assert set(used) <= set(above), name
        above.append(name)
    assert sorted(above) == [file.stem for file in FILES if file.stem != "__init__"]


TRAINING = """
import gc, sys
import torch
import framework as fw

torch.set_num_threads(1)

def refused(*args, **kwargs):
    raise AssertionError("torch differentiated something")

def assert_no_gradients(at_least):
    tensors = [item for item in gc.get_objects() if isinstance(item, torch.Tensor)]
    assert len(tensors) > at_least
    assert not any(tensor.requires_grad or tensor.grad_fn is not None for tensor in tensors)

torch.Tensor.backward = torch.autograd.backward = torch.autograd.grad = refused
torch.Tensor.requires_grad_ = refused
generators = lambda: [torch.Generator().manual_seed(seed) for seed in range(2)]
g = generators()
body = fw.Sequential(
    fw.Conv2d(1, 2, 3, g), fw.BatchNorm(2, 2), fw.GELU(), fw.MaxPool2d(2), fw.Flatten(),
    fw.Dropout(0.2, g), fw.Linear(8, 10, g),
)
network, loss = fw.Siamese(body, fw.mlp(20, [6], 1, g)), fw.PairLoss(torch.ones(3))
optimizer = fw.Adam(network.parameters(), 0.01)
assert torch.is_grad_enabled()  # autograd would record what it could
x, digits = torch.randn(2, 12, 2, 6, 6), torch.randint(10, (2, 12, 2))
targets = (digits[..., :1] <= digits[..., 1:]).float(), digits
losses = []
for step in range(40):
    optimizer.zero_grad()
    losses.append(loss.forward(network.forward(x), targets).sum().item())
    if step % 20 == 1:  # it takes long to look at all objects
        assert_no_gradients(at_least=30)  # including all that forward keeps
    network.backward(loss.backward())
    optimizer.step()
assert losses[-1] < 0.8 * losses[0], losses
fw.Trainer(network, loss, optimizer, generators(), batch_size=5).fit((x, targets), 2)
assert_no_gradients(at_least=1)
print("modules", [name for name in sys.modules if name.split(".")[0] == "digitpairs"])
"""


@pytest.mark.slow
def test_no_tensor_requires_a_gradient_during_training():
    done = subprocess.run(
        [sys.executable, "-c", TRAINING], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "modules []"
