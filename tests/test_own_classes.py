"""Classes outside the package, named on the command line with `_target_`."""

import itertools
import json
import os
import sys
from pathlib import Path

import pytest
import torch
import yaml

from digitpairs import targets
from digitpairs.arguments import normalize_arguments
from digitpairs.checks import InvalidValueError
from digitpairs.configs import CONF
from digitpairs.networks import SiameseNetwork, create
from digitpairs.streams import stream
from digitpairs.sweeps.compose import compose_command
from digitpairs.targets import import_target
from digitpairs.training import build
from digitpairs.training.build import build_network

MODULE = """
from torch import nn
from digitpairs.losses import GammaWeighting
from digitpairs.networks import CNNBody, SiameseNetwork
from digitpairs.training.optimizers import Adam
from digitpairs.training.schedulers import Exponential


class Body:
    def __init__(self, width=16):
        self.width = width

    def __call__(self, channels, rows_per_pair, activation, batch_norm):
        layers = [nn.Flatten(-3), nn.Linear(channels * 196, self.width), nn.ReLU()]
        return nn.Sequential(*layers), self.width


class DeepBody(CNNBody):
    def __init__(self, depth=3, **settings):
        super().__init__(**settings)


class Network(SiameseNetwork):
    def __init__(self, body, activation="relu"):
        super().__init__(body, activation=activation)


class Weighting(GammaWeighting):
    def __init__(self, strength=1.0):
        super().__init__(strength)


class Optimizer(Adam):
    def __init__(self, lr, warm=True):
        super().__init__(lr)


class Schedule(Exponential):
    def __init__(self, interval="epoch"):
        super().__init__(0.9, interval)
"""
FAULTY = """
import torch
from torch import nn
from digitpairs.losses import Coefficient, Weighting
from digitpairs.training.schedulers import Schedule


def features(module, count):
    def body(channels, rows_per_pair, activation, batch_norm):
        return module, count
    return body


def wrong_count(): return features(nn.Sequential(nn.Flatten(), nn.Linear(196, 32)), 64)
def no_flatten(): return features(nn.Linear(196, 32), 32)
def swapped(): return features(32, nn.Flatten())
def no_tuple(): return lambda channels, rows_per_pair, activation, batch_norm: nn.Flatten()


class OneArgument:
    def __call__(self, channels):
        return nn.Flatten(), 196


class Width:
    def __init__(self, width):
        self.width = width

    def __call__(self, channels, rows_per_pair, activation, batch_norm):
        return nn.Sequential(nn.Flatten(), nn.Linear(196, self.width)), self.width


class Network(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(392, outputs))

    def forward(self, images):
        return self.layers(images)


class Text(Network):
    def forward(self, images):
        return "logits"


class Channels(Network):
    def forward(self, images):
        return self.layers(images[:, :1])


class NoSuper(Weighting):
    def __init__(self, share=0.5):
        self.share = share


class Parts(Weighting):
    def forward(self, parts):
        return self.weights * parts


class Arity(Weighting):
    def start_epoch(self, epoch):
        pass


class StepArity(Weighting):
    def start_step(self):
        pass


class Current(Weighting):
    def current(self):
        return self.weights[:2]


class Number(Weighting):
    def __init__(self, share=0.5):
        super().__init__()
        self.share = share

    def start_epoch(self, epoch, history):
        self.weights.fill_(self.share * 0.5)


class NoLoss(Weighting):
    def forward(self, parts):
        return parts.sum().item()
"""
PLAIN = """
import torch
import torchvision
from torch import nn
from digitpairs.networks.layers import Flatten, Linear


class Plain(nn.Module):
    def __init__(self, width=8, outputs=1):
        super().__init__()
        layers = [nn.Flatten(), nn.Linear(392, width), nn.LayerNorm(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs))
        self.scale = nn.Parameter(torch.randn(1))
        self.register_buffer("shift", torch.arange(outputs).float())

    def forward(self, images):
        return self.layers(images) * self.scale + self.shift


def resnet(outputs=2):
    network = torchvision.models.resnet18(num_classes=outputs)
    network.conv1 = nn.Conv2d(2, 64, 3, padding=1, bias=False)
    return network


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(14, 14)
        self.attention = nn.MultiheadAttention(14, 2, dropout=0.1, batch_first=True)
        self.norm = nn.GroupNorm(2, 14)
        self.out = nn.Sequential(nn.Flatten(), nn.Linear(196, width))

    def forward(self, images):
        rows = images[:, 0] + self.embedding.weight
        return self.out(self.norm(self.attention(rows, rows, rows)[0]))


class Body:
    def __init__(self, width=8, blocks=1):
        self.width, self.blocks = width, blocks

    def __call__(self, channels, rows_per_pair, activation, batch_norm):
        return Attention(self.width), self.width


class Stackable:
    def __call__(self, channels, rows_per_pair, activation, batch_norm):
        return nn.Sequential(Flatten(), Linear(196, 8)), 8
"""
SMALL = ["data=digits", "data.pairs=60", "data.test_pairs=40", "trainer.max_epochs=1"]
pytestmark = pytest.mark.filterwarnings("default::digitpairs.checks.DigitPairsWarning")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory that is not among Python's import folders, with the module `own`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own.py").write_text(MODULE)
    yield tmp_path
    names = ("own", "bad", "faulty", "plain")
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]
    targets.import_target.cache_clear()
    targets.target_arguments.cache_clear()


@pytest.fixture
def faulty(folder):
    (folder / "faulty.py").write_text(FAULTY)
    targets.add_import_folders([folder])
    return folder


@pytest.fixture
def plain(folder):
    (folder / "plain.py").write_text(PLAIN)
    targets.add_import_folders([folder])
    return folder


def composed(*arguments: str) -> list[dict]:
    targets.add_import_folders([Path.cwd()])
    jobs = compose_command(CONF, normalize_arguments(arguments))
    return [job.config for job in jobs]


@pytest.mark.parametrize(
    ("arguments", "section", "settings", "left_out"),
    [
        ("model.body._target_=own.Body", "model.body", {}, "channels, kernels, "),
        ("model.body._target_=own.Body model.body.width=8", "model.body", {"width": 8}, "hidden"),
        ("model.body.width=8 model.body._target_=own.Body", "model.body", {"width": 8}, "hidden"),
        ("model.body={_target_:own.Body,width:32}", "model.body", {"width": 32}, "hidden"),
        ("model={body:{_target_:own.Body,width:32}}", "model.body", {"width": 32}, "hidden"),
        ("aux._target_=own.Weighting aux.strength=2", "aux", {"strength": 2}, "lambda"),
        ("optimizer._target_=own.Optimizer", "optimizer", {"lr": 0.005}, "betas, eps, "),
        ("optimizer={_target_:own.Optimizer,lr:1}", "optimizer", {"lr": 1}, "betas, eps, "),
        ("scheduler._target_=own.Schedule", "scheduler", {"interval": "step"}, "warmup, "),
        ("task=disk loss._target_=own.Body", "loss", {}, "reduction"),
    ],
)
def test_a_class_gets_the_defaults_that_it_accepts(folder, arguments, section, settings, left_out):
    with pytest.warns(match=f"{section}: own.* does not accept the defaults .*{left_out}"):
        (config,) = composed(*arguments.split())
    for key in section.split("."):
        config = config[key]
    assert {key: value for key, value in config.items() if key != "_target_"} == settings


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("own.DeepBody", {"depth": 5, "channels": [32, 64], "dropout": 0.3}),
        ("digitpairs.networks.CNNBody", {"channels": [32, 64], "dropout": 0.3}),
    ],
)
def test_a_class_that_accepts_all_defaults_gets_them_all(folder, target, kept):
    depth = [f"model.body.depth={kept['depth']}"] if "depth" in kept else []
    (config,) = composed(f"model.body._target_={target}", *depth)
    assert kept.items() <= config["model"]["body"].items()


def test_the_network_can_change_while_its_body_stays(folder):
    with pytest.warns(match="model: own.Network does not accept the defaults batch_norm, sharing"):
        (config,) = composed("model._target_=own.Network")
    assert config["model"].keys() == {"_target_", "body", "activation"}


@pytest.mark.slow
def test_keys_of_a_class_can_be_swept(folder):
    with pytest.warns(match="own.Body does not accept"):
        jobs = composed("model.body._target_=own.Body", "model.body.width=8,32", "seed=0,1")
    settings = [(job["model"]["body"]["width"], job["seed"]) for job in jobs]
    assert settings == list(itertools.product((8, 32), (0, 1)))


@pytest.mark.parametrize("key", ["hidden", "widht"])
def test_a_given_key_that_the_class_does_not_accept_is_refused(command, folder, key):
    status, _, err = command(*SMALL, "model.body._target_=own.Body", f"model.body.{key}=8")
    refusal = f"error: model.body.{key}=8 is not accepted: one of width, as own.Body takes"
    assert status == 2 and refusal in err


@pytest.mark.slow
@pytest.mark.parametrize(
    "place, plan", [("working directory", "processes"), ("config folder", "serial")]
)
def test_a_class_of_the_users_own_trains(command, folder, tmp_path, place, plan):
    arguments = [*SMALL, f"sweep.plan={plan}", "model.body._target_=own.Body"]
    if place == "config folder":
        (folder / "elsewhere").mkdir()
        (folder / "own.py").rename(folder / "elsewhere" / "own.py")
        arguments += ["--config-dir", "elsewhere"]
    status, _, err = command(*arguments, "-m", "seed=0,1")
    left_out = "channels, kernels, paddings, pools, hidden, dropout"
    warning = f"model.body: own.Body does not accept the defaults {left_out}, which are left out"
    assert (status, err) == (0, f"warning: {warning}\n")
    configs = list(tmp_path.glob("outputs/*/*/*/config.yaml"))
    bodies = [yaml.safe_load(path.read_text())["model"]["body"] for path in configs]
    assert bodies == [{"_target_": "own.Body"}] * 2


@pytest.mark.parametrize(
    ("target", "content", "message"),
    [
        ("bad.Body", "import os\nsize = nothing\n", "{file}:2: NameError: name 'nothing'"),
        ("bad.Body", "class Body:\n    def f(:\n", "{file}:2: SyntaxError: invalid syntax"),
        ("bad.Body", "\nimport nothing.at_all\n", "{file}:2: ModuleNotFoundError: No module"),
        ("bad.Body", "raise SystemExit('bye')\n", "{file}:1: SystemExit: bye"),
        ("bad.Body", "import json\njson.loads('x')\n", "{file}:2: JSONDecodeError: Expecting"),
        ("bad.Body", "class Bodies: pass\n", "bad ({file}) has no Body; did you mean Bodies?"),
        ("bad.Body.x", "class Body: pass\n", "type object 'Body' has no attribute 'x'"),
        ("missing.Body", "", "there is no module missing in "),
    ],
)
def test_an_import_error_is_the_modules_own(folder, target, content, message):
    file = folder / "bad.py"
    file.write_text(content)
    targets.add_import_folders([folder])
    with pytest.raises(InvalidValueError) as caught:
        targets.import_target(target)
    start = f"_target_={target} is not accepted: a class that can be imported: "
    assert str(caught.value).startswith(start + message.format(file=file))


@pytest.mark.parametrize("target", ["missing.Body", "own.missing.Body", "own.bad.Body"])
def test_a_class_that_cannot_be_imported_is_one_message(command, folder, target):
    (folder / "configs").mkdir()
    arguments = [f"model.body._target_={target}", "--config-dir", "configs", *SMALL]
    if target == "own.bad.Body":  # an error within a package names the module, not the package
        (folder / "own.py").unlink()
        (folder / "own").mkdir()
        (folder / "own" / "bad.py").write_text("1 / 0")
    status, out, err = command(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: model.body._target_={target} is not accepted: ")
    expected = {
        "missing.Body": f"{folder}, {folder / 'configs'}, and none is installed",
        "own.missing.Body": f"own ({folder / 'own.py'}) has no missing",
        "own.bad.Body": f"{folder / 'own' / 'bad.py'}:1: ZeroDivisionError: division by zero",
    }
    assert expected[target] in err


@pytest.mark.slow
def test_an_exception_of_a_class_names_its_line(command, folder):
    (folder / "own.py").write_text("class Body:\n    def __init__(self):\n        self.x = y\n")
    status, _, err = command("model.body._target_=own.Body", *SMALL)
    assert status == 2
    assert f"{folder / 'own.py'}:3: NameError: name 'y' is not defined" in err


def test_an_installed_module_is_imported_before_one_of_the_same_name(folder):
    (folder / "json.py").write_text("raise RuntimeError")
    targets.add_import_folders([folder])
    assert targets.import_target("json.loads") is __import__("json").loads
    assert sys.path[-1] == os.fspath(folder)


BODY = (
    "a body is called with (channels, rows_per_pair, activation, batch_norm), and returns a module"
)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("wrong_count", "its module gives (2, 32) for images (2, 1, 14, 14), and it says 64 feat"),
        ("no_flatten", "mat1 and mat2 shapes cannot be multiplied"),
        ("swapped", "it returns (int, Flatten)"),
        ("no_tuple", "it returns a Flatten"),
        ("OneArgument", "OneArgument.__call__() takes 2 positional arguments but 5 were given"),
        ("Network", "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),  # a module
    ],
)
def test_a_wrong_body_is_named_with_what_it_gives(faulty, target, message):
    part = {"_target_": "digitpairs.SiameseNetwork", "body": {"_target_": f"faulty.{target}"}}
    with pytest.raises(InvalidValueError) as caught:
        build(part)
    assert caught.value.key == "body._target_" and "faulty" in caught.value.value
    assert message in caught.value.accepted and BODY in caught.value.accepted


def test_an_exception_of_a_body_names_its_line(faulty):
    body = {"_target_": "faulty.Width", "width": "abc"}
    with pytest.raises(InvalidValueError) as caught:
        build({"_target_": "digitpairs.JointNetwork", "body": body})
    line = next(i for i, each in enumerate(FAULTY.splitlines(), 1) if "196, self.width" in each)
    assert f"{faulty / 'faulty.py'}:{line}: TypeError" in str(caught.value)
    assert "body._target_=faulty.Width is not accepted" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Network", "for 2 pairs it gives (2, 3) and None; a network maps pairs (B, 2, 14, 14)"),
        ("Text", "the network gives a str; a network maps"),
        ("Channels", "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_a_wrong_network_is_named_with_what_it_gives(command, faulty, target, message):
    arguments = [f"model={{_target_:faulty.{target}}}", "aux=none"]
    status, _, err = command(*SMALL, *arguments)
    assert (
        status == 2
        and f"error: model._target_=faulty.{target} is not accepted: " in err
        and message in err
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("aux", "message"),
    [
        ("NoSuper", "its __init__ does not call super().__init__()"),
        ("Parts", "forward(parts) gives the shape (3,)"),
        ("NoLoss", "forward(parts) gives a float"),
        ("Arity", "Arity.start_epoch() takes 2 positional arguments but 3 were given"),
        ("StepArity", "StepArity.start_step() takes 1 positional argument but 2 were given"),
        ("Current", "current() gives the shape (2,)"),
        (
            "Number,share:{schedule:linear,start:1,end:0,epochs:2}",
            "unsupported operand type(s) for *: 'dict' and 'float'; a schedule, as share, is for a "
            "Coefficient",
        ),
    ],
)
def test_a_wrong_weighting_is_named_with_its_fault(command, faulty, aux, message):
    status, _, err = command(*SMALL, f"aux={{_target_:faulty.{aux}}}")
    target = f"faulty.{aux.partition(',')[0]}"
    assert status == 2 and f"error: aux._target_={target} is not accepted: " in err
    assert message in err and "a Weighting sets its weights (3,) in start_epoch" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        "optimizer._target_=torch.optim.LBFGS",
        "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau",
        "scheduler._target_=torch.optim.lr_scheduler.StepLR",
        "optimizer._target_=torch.optim.RMSprop optimizer.alfa=0.9",
    ],
)
def test_a_class_of_torch_that_cannot_train_is_refused(command, folder, fault):
    status, _, err = command(*SMALL, *fault.split())
    assert status == 2 and f"error: {fault.partition('.')[0]}." in err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("partial", ["", "optimizer._partial_=true"])
def test_torchs_optimisers_train_as_torch_does(command, folder, tmp_path, partial):
    """RMSprop and StepLR by name give the weights of the same classes wrapped by hand."""
    (folder / "own.py").write_text(
        "import torch\n"
        "from digitpairs.training.schedulers import Schedule\n"
        "def optimizer(lr):\n"
        "    return lambda parameters: torch.optim.RMSprop(parameters, lr, alpha=0.9)\n"
        "class Steps(Schedule):\n"
        "    def __call__(self, optimizer, timing):\n"
        "        return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)\n"
    )
    model = ["model=siamese_mlp", "model.body.hidden=[8]", "trainer.max_epochs=2"]
    arguments = [*(each for each in SMALL if "epochs" not in each), *model, "sweep.plan=serial"]
    theirs = [
        "optimizer._target_=torch.optim.RMSprop",
        "optimizer.alpha=0.9",
        "scheduler._target_=torch.optim.lr_scheduler.StepLR",
        "scheduler.step_size=1",
        "scheduler.gamma=0.5",
        *partial.split(),
    ]
    by_hand = ["optimizer={_target_:own.optimizer,lr:0.005}", "scheduler={_target_:own.Steps}"]
    rows = []
    for name, settings in (("theirs", theirs), ("by_hand", by_hand)):
        status, out, err = command(*arguments, *settings, output=tmp_path / name)
        assert status == 0, err
        (path,) = (tmp_path / name).glob("*/*/*/metrics.csv")
        rows.append(path.read_text())
    assert rows[0] == rows[1] and "0.0025" in rows[0]


@pytest.mark.slow
def test_a_schedule_needs_its_interval(command, folder):
    (folder / "own.py").write_text(
        "from digitpairs.training.schedulers import Schedule\n"
        "class Steps(Schedule):\n"
        "    def __init__(self):\n"
        "        self.factor = 2\n"
    )
    status, _, err = command(*SMALL, "scheduler={_target_:own.Steps}")
    refusal = "error: scheduler._target_=own.Steps is not accepted: a Schedule whose __init__ calls"
    assert status == 2 and refusal in err


@pytest.mark.slow
def test_the_plan_says_what_keeps_runs_from_being_stacked(command, plain):
    arguments = [*SMALL, "sweep.plan=serial", "-m", "seed=0,1"]
    reasons = {
        "model={_target_:plain.Plain} aux=none": "network: it is a plain.Plain, which is not decl",
        "optimizer._target_=torch.optim.RMSprop": "optimizer: torch.optim.rmsprop.RMSprop sets no",
        "model.body._target_=plain.Stackable scheduler._target_=torch.optim.lr_scheduler.StepLR "
        "scheduler.step_size=3": "scheduler: torch.optim.lr_scheduler.StepLR may change",
    }
    for settings, reason in reasons.items():
        status, out, err = command(*arguments, *settings.split())
        assert status == 0, err
        assert f"2 runs: 2 alone, in this process of 1 thread; not stacked: {reason}" in out
    assert "not stacked" not in command(*arguments, "model.body._target_=plain.Stackable")[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        "{_target_:plain.Plain}",
        "{_target_:plain.Plain,outputs:2}",
        "{_target_:plain.resnet}",
        "{_target_:torch.nn.Sequential,_args_:[{_target_:torch.nn.Flatten},"
        "{_target_:torch.nn.Linear,in_features:392,out_features:2}]}",
    ],
)
def test_ordinary_networks_of_logits_train(command, plain, tmp_path, model):
    status, _, err = command(*SMALL, "data.batch_size=30", "aux=none", f"model={model}")
    assert status == 0, err
    (result,) = tmp_path.glob("outputs/*/*/*/result.json")
    assert 0 <= json.loads(result.read_text())["test/comparison_error"] <= 100


@pytest.mark.slow
def test_a_body_with_any_layers_trains(command, plain, tmp_path, global_generator_untouched):
    arguments = [*SMALL, "model={_target_:digitpairs.SiameseNetwork,body:{_target_:plain.Body}}"]
    for name in "ab":
        status, _, err = command(*arguments, output=tmp_path / name)
        assert status == 0, err
    first, second = (next((tmp_path / name).glob("*/*/*/metrics.csv")) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_a_foreign_network_has_the_values_of_its_constructor(plain, global_generator_untouched):
    """They depend on the seed; buffers and constants are the constructor's."""
    networks = [
        build_network({"_target_": "plain.Plain", "outputs": 2}, seed) for seed in (0, 0, 1)
    ]
    scales = [network.scale.item() for network in networks]
    assert scales[0] == scales[1] != scales[2]
    assert networks[0].shift.tolist() == [0, 1]
    assert networks[0].layers[2].weight.tolist() == [1] * 8
    assert networks[0].layers[1].weight.abs().max() <= 392**-0.5


def test_the_packages_layers_in_a_foreign_network_follow_their_scheme(plain):
    network = build_network(
        {"_target_": "digitpairs.SiameseNetwork", "body": {"_target_": "plain.Stackable"}}, 3
    )
    ours = create(lambda: SiameseNetwork(import_target("plain.Stackable")()), stream(3, "weights"))
    for value, expected in zip(network.parameters(), ours.parameters(), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.slow
def test_keys_that_a_users_class_takes_need_not_be_in_its_yaml(command, plain, tmp_path):
    (plain / "mine" / "model").mkdir(parents=True)
    (plain / "mine" / "model" / "own.yaml").write_text(
        "_target_: digitpairs.SiameseNetwork\nbody: {_target_: plain.Body}\n"
    )
    arguments = [*SMALL, "--config-dir", "mine", "model=own"]
    status, _, err = command(*arguments, "model.body.width=4", "model.sharing=false")
    assert status == 0, err
    (config,) = tmp_path.glob("outputs/*/*/*/config.yaml")
    model = yaml.safe_load(config.read_text())["model"]
    assert (model["body"]["width"], model["sharing"]) == (4, False)
    status, _, err = command(*arguments, "model.body.depth=4")
    refusal = "model.body.depth=4 is not accepted: one of width, blocks, as plain.Body takes"
    assert status == 2 and refusal in err


def test_help_lists_the_users_own_choices(command, folder):
    (folder / "mine" / "model").mkdir(parents=True)
    (folder / "mine" / "model" / "own.yaml").write_text("_target_: own.Body\n")
    status, out, _ = command("--help", "--config-dir", "mine")
    assert status == 0 and "Your own choices, in mine:\n  model      own\n" in out
