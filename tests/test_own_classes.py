"""Classes outside the package, named on the command line with `_target_`."""

import itertools
import os
import sys
from pathlib import Path

import pytest
import yaml

from digitpairs import targets
from digitpairs.arguments import normalize_arguments
from digitpairs.checks import InvalidValueError
from digitpairs.configs import CONF
from digitpairs.sweeps.compose import compose_command

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
SMALL = ["data=digits", "data.pairs=60", "data.test_pairs=40", "trainer.max_epochs=1"]
pytestmark = pytest.mark.filterwarnings("default::digitpairs.checks.DigitPairsWarning")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory that is not among Python's import folders, with the module `own`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own.py").write_text(MODULE)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("own", "bad")]:
        del sys.modules[name]
    targets.import_target.cache_clear()
    targets.target_arguments.cache_clear()


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
