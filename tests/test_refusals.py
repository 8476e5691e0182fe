"""Wrong arguments and files are refused in one message that names the key or the line."""

import functools
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from digitpairs.arguments import check_arguments, expand_sweep, normalize_arguments
from digitpairs.data import sources
from digitpairs.sweeps import progress, sweep
from digitpairs.sweeps.jobs import fingerprint
from digitpairs.sweeps.progress import counted
from tests.arguments import DIGITS, DISK, GROUPS, base_config, config_of, loader, refusal

pytestmark = pytest.mark.filterwarnings("ignore:.* does not accept the defaults")


NO_SECTIONS = (
    ["~data", "~model", "~optimizer", "~trainer", "~task", "~output", "~early_stopping", "~engine"]
    + ["data=null", "model=null", "scheduler=null", "early_stopping=null", "optimizer=0.8"]
    + ["task=1.5", "early_stopping=5", "trainer=3", "scheduler=true", "model=[cnn,mlp]"]
    + ["~optimizer._target_", "optimizer._target_=null", "scheduler._target_=3"]
    + ["model._target_=[a]", "data._target_=builtins.dict", "optimizer._target_=builtins.dict"]
    + ["scheduler._target_=builtins.list", "model._target_=digitpairs.networks.CNNBody"]
)


@pytest.mark.parametrize("base", [DIGITS, DISK], ids=["pairs", "disk"])
@pytest.mark.parametrize("argument", NO_SECTIONS)
def test_a_missing_or_mistyped_section_is_named(base, argument):
    key = argument.strip("~").partition("=")[0].removesuffix("._target_")
    message = refusal(base, argument)
    assert re.match(rf"{key}(\.\w+)?=.* is not accepted: ", message), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("~aux", "aux=nothing is not accepted: one of convex, dwa, "),
        ("aux=null", "aux=None is not accepted: one of convex, dwa, "),
        ("aux=0.8", "aux=0.8 is not accepted: one of convex, dwa, "),
        ("smoke_data=foo", "smoke_data=foo is not accepted: one of on_disk, on_pairs"),
        ("variant=[a]", "variant=['a'] is not accepted: one of azzano/"),
        ("~data.root", "data.root=nothing is not accepted: a value"),
        ("~data.seed", "data.seed=nothing is not accepted: a value"),
        ("~seeds.dropout", "seeds.dropout=nothing is not accepted: a value"),
        ("+seeds.noise=3", "seeds.noise=3 is not accepted: one of weights, "),
        ("~aux.lambda", "aux.lambda=nothing is not accepted: "),
        ("+aux.mu=3", "aux.mu=3 is not accepted: "),
        ("+model.body.foo=1", "model.body.foo=1 is not accepted: one of hidden, "),
        ("model.body=cnn", "model.body=cnn is not accepted: the settings of a body"),
        ("~model.body._target_", "model.body._target_=nothing is not accepted: "),
        ("+data.augmentation.noise=1", "data.augmentation.noise=1 is not accepted: one of shift, "),
        ("data.augmentation=false", "data.augmentation=False is not accepted: settings"),
        ("data.fold=false", "data.fold=False is not accepted: a whole number"),
        ("+trainer.benchmark=foo", "trainer.benchmark=foo is not accepted: bool"),
        ("+trainer.check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch=0 is not accepted"),
        ("+trainer.callbacks=[1]", "trainer.callbacks=[1] is not accepted: "),
        (f"data.pairs={10**22}", f"data.pairs={10**22} is not accepted: a whole number of at most"),
        ("aux.lambda={1:2,a:3}", "aux.lambda={'1': 2, 'a': 3} is not accepted: a number, or a"),
        ("seeds.order={1:2}", "seeds.order={'1': 2} is not accepted: a whole number"),
        ("sweep=null", "sweep=None is not accepted: settings"),
        ("model.body.hidden.first=3", "model.body.hidden.first=3 cannot be composed"),
        ("seed=${oc.env:NO_SUCH_VARIABLE}", "seed=${oc.env:NO_SUCH_VARIABLE} cannot be composed"),
    ],
)  # fmt: skip
def test_a_missing_or_wrong_key_of_the_pairs_is_named(argument, message):
    refused = refusal((*DIGITS, "model=siamese_mlp"), argument)
    assert message in refused, refused


@pytest.mark.parametrize(
    "arguments, accepted",
    [
        ("model=azzano/fcn", "one of azzano/cnn, azzano/fcnn; did you mean azzano/fcnn?"),
        (
            "experiment=azano/fcnn",
            "one of best, best_fast, .* azzano/.* did you mean azzano/fcnn?",
        ),
        ("variant=azzano/hour", "one of azzano/minute, azzano/seconds; did you mean"),
        ("variant=hour", "one of azzano/minute, azzano/seconds, "),
        ("model=foo", "one of cnn, disk_mlp, mlp, siamese_cnn, .* azzano/cnn"),
        ("modle=mlp", "there is no such key; .* did you mean model?"),
        ("trainer.max_epochs=abc", "a whole number of at least 1"),
        ("seed=-1", "a whole number from 0 to 4294967295"),
        ("aux.lambda=-1", "a number of at least 0"),
        ("aux.c=0.7", ".* aux=convex has c"),
        ("aux=convex aux.c=0.7", "a number from 0 to 0.5"),
        ("data.batch_size=0", "a whole number of at least 1"),
        ("data.test_pairs=301", "at most 300"),
        ("+trainer.foo=1", "an argument of Lightning's Trainer"),
        ("+model.foo=1", "one of body, .*SiameseNetwork takes"),
        ("model.body._target_=digitpairs.networks.Nobody", "a class that can be imported"),
        ("trainer.accelerator=abacus", "one of auto, cpu"),
        ("trainer.precision=16-mixed", "one of 32-true"),
        ("seeds.weights=-4", "a whole number from 0"),
        ("data.source=foo", "one of auto"),
        ("+foo=1", "one of the keys task, engine, data, model"),
        ("+trainer.max_steps=2", "an argument of Lightning's Trainer"),
        ("trainer.gradient_clip_val=-1.0", "a number above 0"),
        ("trainer.gradient_clip_algorithm=max", "one of norm, value"),
        ("early_stopping.patience=0", "a whole number of at least 1"),
        ("early_stopping.monitor=test/loss", "one of validation/"),
        ("+early_stopping.wait=3", "one of patience, monitor, min_delta"),
        ("early_stopping.patience=3 data.validation=0.2 +trainer.check_val_every_n_epoch=2", "1"),
        ("+trainer.limit_test_batches=0", "an argument of Lightning's Trainer"),
        ("sweep.plan=fast", "one of auto, array, processes, serial"),
        ("sweep.array_size=0", "a whole number of at least 1"),
        ("sweep.processes=two", "a whole number of at least 1"),
        ("+sweep.cores=2", "one of plan, array_size, processes"),
        ("data.validation=0.0004", "0, or a share"),
        ("data.augmentation.swap=2", "a number from 0 to 1"),
        ("optimizer.lr=fast", "a number above 0"),
    ],
)
def test_a_value_that_is_not_accepted_is_named(arguments, accepted):
    """The last argument is the one that is not accepted."""
    *rest, last = arguments.split()
    refused = re.escape(last.lstrip("+"))
    message = refusal(("data=digits", *rest), last)
    assert re.match(f"{refused} is not accepted: {accepted}", message), message


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("data=idx data.root=/not/there", "/not/there holds no idx files"),
        ("data=folder data.root=/not/there", "/not/there is not a folder"),
        (
            "model=siamese_cnn model.body.kernels=15",
            "model.body.kernels=[15, 15] is not accepted: at most 14 in layer 1",
        ),
        (
            "model.digit_head=none model.comparison_input=features",
            "aux=LambdaWeighting is not accepted",
        ),
        (
            "early_stopping.patience=3",
            "early_stopping.monitor=validation/comparison_error is not accepted: a monitor of the ",
        ),
        (
            "model.batch_norm=true data.pairs=101",
            "data.batch_size=100 is not accepted: one that leaves no mini-batch of a single pair",
        ),
    ],
)
def test_another_key_is_named_than_the_last(arguments, message):
    *rest, last = arguments.split()
    data = [] if "data=" in arguments else ["data=digits"]
    refused = refusal((*data, *rest), last)
    assert refused.startswith(message) and "\n" not in refused, refused


WITHOUT_LAYERS = (*DISK, "model.hidden=[]")
WITHOUT_BODY_LAYERS = (*DIGITS, "model=mlp", "model.body.hidden=[]")
POSTERIOR = (*DIGITS, "model=siamese_cnn")
WITHOUT_DIGITS = (
    *DIGITS,
    "model.digit_head=none",
    "model.comparison_input=features",
    "aux=none",
)


@pytest.mark.parametrize(
    ("base", "argument", "shown", "accepted"),
    [
        (DISK, "model.batch_norm=../x", "../x", "true or false"),
        (WITHOUT_LAYERS, "model.activation=foo", "foo", "one of relu"),
        (WITHOUT_LAYERS, "model.dropout=foo", "foo", "a number"),
        (DISK, "early_stopping.monitor=[1]", "[1]", "one of validation/loss"),
        (DISK, "early_stopping.min_delta=true", "True", "a number"),
        (DISK, "+early_stopping.wait=3", "3", "one of patience"),
        (DISK, "data.outside=false", "False", "0 or -1"),
        (DISK, "~data.outside", "nothing", "a value"),
        (DISK, "loss.reduction=[mean]", "['mean']", "one of mean, sum"),
        (DIGITS, "early_stopping.monitor=[1]", "[1]", "one of validation/"),
        (WITHOUT_BODY_LAYERS, "model.body.dropout=foo", "foo", "a number"),
        (POSTERIOR, "model.comparison_hidden=foo", "foo", ""),
        (POSTERIOR, "model.comparison_hidden=[8]", "[8]", "[] with comparison_input=posterior"),
        (POSTERIOR, "model.comparison_outputs=2", "2", "1 with comparison_input=posterior"),
        (
            POSTERIOR,
            "+model.comparison_output_activation=relu",
            "relu",
            "null with comparison_input=posterior",
        ),
        (WITHOUT_DIGITS, "model.digit_hidden=foo", "foo", ""),
    ],
)
def test_a_setting_without_effect_is_checked(base, argument, shown, accepted):
    key = argument.strip("+~").partition("=")[0]
    refused = refusal(base, argument)
    assert refused.startswith(f"{key}={shown} is not accepted: {accepted}"), refused


def test_text_of_numbers_and_truth_values_is_converted(monkeypatch):
    monkeypatch.setenv("NUMBER", "7")
    monkeypatch.setenv("RATE", "2.5e-3")
    monkeypatch.setenv("TRUTH", "True")
    assert config_of(DIGITS, "seed=${oc.env:NUMBER}")["seeds"]["aux"] == 7
    assert config_of(DIGITS, "optimizer.lr=${oc.env:RATE}")["optimizer"]["lr"] == 0.0025
    assert config_of(DIGITS, "model.batch_norm=${oc.env:TRUTH}")["model"]["batch_norm"] is True
    plain, quoted = config_of(DIGITS, "seed=7"), config_of(DIGITS, "seed='7'")
    assert plain == quoted and plain["data"]["seed"] == 7
    assert fingerprint(plain) == fingerprint(quoted)


@pytest.mark.parametrize(
    "text",
    ["2026", "2026.10", "007", "1e3", "true", "nan", "0..9", "2026-11-27", "../x", "~x", "a b"],
)
def test_a_path_stays_as_it_was_typed(text):
    assert config_of(DIGITS, f"output={text}")["output"] == text
    assert config_of(DIGITS, f"data.root={text}")["data"]["root"] == text


@pytest.mark.slow
def test_home_and_variables_in_paths_are_replaced(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("PLACE", "scratch")
    for argument, path in [
        ("~/x", "/home/someone/x"),
        ("$HOME/x", "/home/someone/x"),
        ("/data/$PLACE", "/data/scratch"),
        ("$NOT_SET/x", "$NOT_SET/x"),
    ]:
        assert config_of(DIGITS, f"output={argument}")["output"] == path
        assert config_of(DIGITS, f"data.root={argument}")["data"]["root"] == path


@pytest.mark.parametrize(
    "value, multirun", [("null", []), ("[a]", ["-m"]), ("{a:1}", []), ("", []), ("", ["-m"])]
)
def test_an_invalid_output_creates_no_folder(command, tmp_path, monkeypatch, value, multirun):
    monkeypatch.chdir(tmp_path)
    status, _, err = command(*DIGITS, f"output={value}", *multirun, output=None)
    assert status == 2 and err.startswith("error: output=") and "the path of a folder" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["[1]", "{a:1}", "[a,b]"])
def test_an_invalid_root_is_refused(value):
    assert refusal(DIGITS, f"data.root={value}").startswith("data.root=")


# Typing errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=0,", "1"], "seed=0, is not accepted: a list without spaces: write seed=0,1"),
        (["seed", "=", "3"], "seed= is not accepted: KEY=VALUE without spaces, such as seed=3"),
        (["optimizer.lr=0.1", "3"], "3= is not accepted: KEY=VALUE without spaces"),
        (["output=a=b"], """output=a=b is not accepted: .* write 'output="a=b"'"""),
        (["data.root=été"], """data.root=été is not accepted: .* write 'data.root="été"'"""),
        (["output=a;b"], """output=a;b is not accepted: .* write 'output="a;b"'"""),
        (["sééd=3"], "sééd=3 is not accepted: a key of letters"),
        (["seed=3\r"], r"seed='3\\r' is not accepted: .*carriage return .*: write seed=3$"),
        (["seed=0..9"], "seed=0..9 is not accepted: one value, unless -m .*: write seed=0..9 -m"),
        (["aux.lambda=1,2"], "aux.lambda=1,2 is not accepted: one .*: write aux.lambda=1,2 -m"),
        (["model=mlp,cnn"], "model=mlp,cnn is not accepted: one value, unless -m"),
        (["model.hidden=[1,2"], r"model.hidden=\[1,2 is not accepted: a whole list"),
        (["seed=foo(3)"], r"seed=foo\(3\) is not accepted: .*Unknown function 'foo'"),
        (
            ["-m", "optimizer.lr=0.001..0.1"],
            "optimizer.lr=0.001..0.1 is not accepted: .*its step, such as 0.001..0.1..0.0099",
        ),
        (
            ["-m", "aux.lambda=0.5..1"],
            "aux.lambda=0.5..1 is not accepted: .*its step, such as 0.5..1..0.05",
        ),
        (
            ["-m", "aux.lambda=0..1..0.3"],
            "aux.lambda=0..1..0.3 is not accepted: .* end: 0..0.9..0.3 or 0..1.2..0.3",
        ),
        (["-m", "seed=0..10..3"], "seed=0..10..3 is not accepted: .* end: 0..9..3 or 0..12..3"),
        (["-m", "seed=1,0..1e400"], "seed=0..1e400 is not accepted: a range of fewer values"),
        (
            ["-m", "aux.lambda=0..100000..0.1"],
            "aux.lambda=0..100000..0.1 is not accepted: a range of at most 10000 values",
        ),
        (["-m", "output=a,b"], "output=a,b is not accepted: one folder a sweep"),
        (
            ["-m", "experiment=wang/sharing,wang/aux"],
            "experiment=wang/sharing,wang/aux is not accepted: one study a command",
        ),
        (["--info", "all", "-m", "seed=0,1"], "--info goes only without -m"),
    ],
)
def test_a_typing_error_is_answered_with_a_correction(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        check_arguments(arguments)
        normalize_arguments(arguments)


def test_the_corrections_of_the_messages_can_be_read():
    for argument in ['output="a=b"', 'data.root="été"', "seed=3"]:
        check_arguments([argument])
    assert config_of(DIGITS, 'output="a=b"')["output"] == "a=b"


def jobs_of(grid: dict, *arguments: str, max_jobs: int | None = None) -> list[list[str]]:
    return expand_sweep(grid, normalize_arguments(arguments), loader(), max_jobs)


def test_a_study_has_the_same_ranges_as_the_command_line():
    assert jobs_of({"seed": "0..2"}) == [["seed=0"], ["seed=1"], ["seed=2"]]
    assert jobs_of({"aux.lambda": "0.5..0.7..0.1"}, "seed=3") == [
        [f"aux.lambda={value}", "seed=3"] for value in (0.5, 0.6, 0.7)
    ]
    assert jobs_of({"seed": "0..9"}, "seed=0..1") == [["seed=0"], ["seed=1"]]
    refused = "^optimizer.lr=0.1..0.3 is not accepted: a range of decimals with its step"
    with pytest.raises(ValueError, match=refused):
        jobs_of({"optimizer.lr": "0.1..0.3"})


@pytest.mark.parametrize(
    ("arguments", "count"),
    [(["seed=0..1000000"], 1000001), (["seed=0..99", "aux.lambda=0.1..0.3..0.1"], 300)],
)
def test_a_sweep_of_too_many_runs_is_refused_with_their_number(arguments, count):
    refused = f"^sweep.max_runs=200 is not accepted: at least {count}, the number of runs"
    with pytest.raises(ValueError, match=refused):
        jobs_of({}, *arguments, max_jobs=200)


@pytest.mark.parametrize("value", ["range(5,5)", "range(0,5,0)", "range(0,inf)", "interval(0,1)"])
def test_a_sweep_of_no_values_is_refused(value):
    with pytest.raises(ValueError, match=re.escape(f"seed={value} is not accepted: ")):
        jobs_of({}, f"seed={value}")


def test_long_work_before_the_training_is_counted(capsys, monkeypatch):
    assert list(counted(range(3), "checked")) == [0, 1, 2]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", -1)
    assert list(counted(range(3), "checked")) == [0, 1, 2]
    messages = [f"{done} of 3 runs checked" for done in range(3)]
    assert capsys.readouterr().out.splitlines() == messages


# The user's own files

ADAM = b"_target_: digitpairs.training.optimizers.Adam\n"


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", 1, "no line KEY: VALUE"),
        (b"# a comment\n# and another\n", 1, "no line KEY: VALUE"),
        (b"- lr\n- 0.1\n", 1, "no line KEY: VALUE"),
        (ADAM + b"\tlr: 0.1\n", 2, "tab"),
        (ADAM + b"lr: {0.1\n", 3, "expected"),
        (ADAM + b"lr: 0.1\nlr: 0.2\n", 3, "duplicate key lr"),
        ((ADAM + b"lr: 0.1\n").decode().encode("utf-16"), 1, "not UTF-8"),
        (ADAM + "# débit\n".encode("latin-1"), 2, "not UTF-8"),
        (b"\xef\xbb\xbf" + ADAM + b"lr: 0.1\n", 1, "byte order mark"),
        (ADAM + b"lr: \x00\n", 2, "control characters"),
        (b"lr: 0.1\n", 1, "names no class"),
        (b"_target_:\nlr: 0.1\n", 1, "names no class"),
        (b"# @author of these many words\n" + ADAM, 1, "components"),
    ],
)
def test_an_invalid_yaml_file_is_named_with_its_line(command, tmp_path, content, line, message):
    path = tmp_path / "own" / "optimizer" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    status, _, err = command("optimizer=mine", "--config-dir", str(tmp_path / "own"), *DIGITS)
    assert status == 2 and err.startswith(f"error: {path}:{line}: "), err
    assert message in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("section", "line", "name"),
    [
        ("hydra:\n", 3, "hydra"),
        ("hydra:\n  mode: MULTIRUN\n  sweeper:\n", 5, "sweeper"),
        ("hydra: 3\n", 3, "hydra"),
    ],
)
def test_an_empty_section_of_hydra_is_named_with_its_line(command, tmp_path, section, line, name):
    path = own_study(tmp_path, section)
    status, _, err = command("experiment=mine", "--config-dir", str(tmp_path / "own"), *DIGITS)
    message = f"error: {path}:{line}: {name} has no keys: give it some, or remove the line\n"
    assert (status, err) == (2, message)


def own_study(tmp_path: Path, content: str, header: str = "# @package _global_\n") -> Path:
    path = tmp_path / "own" / "experiment" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"{header}# A study.\n{content}")
    return path


@pytest.fixture
def planned(monkeypatch):
    """The jobs that the command would train."""
    jobs = []

    def make_plan(todo, *_) -> sweep.Plan:
        jobs.extend(todo)
        return sweep.Plan([], 0, 1)

    monkeypatch.setattr(sweep, "make_plan", make_plan)
    monkeypatch.setattr(sweep, "execute_plan", lambda *_: 0)
    return jobs


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["mode: MULTIRUN, ", ""])
@pytest.mark.parametrize("header", ["# @package _global_\n", ""])
@pytest.mark.parametrize(
    "grid",
    ["{seed: 0..2, aux.lambda: 0.5..0.7..0.1}", "{seed: [0..1, 2], aux.lambda: [0.5, 0.6, 0.7]}"],
)
def test_a_users_study_trains_its_grid(command, tmp_path, planned, mode, header, grid):
    choice = "defaults: [{override /model: mlp}]\n"
    own_study(tmp_path, f"{choice}hydra: {{{mode}sweeper: {{params: {grid}}}}}\n", header)
    status, _, err = command("experiment=mine", "--config-dir", str(tmp_path / "own"), *DIGITS)
    assert (status, err) == (0, "")
    settings = {(job.seed, job.config["aux"]["lambda"]) for job in planned}
    assert settings == set(itertools.product((0, 1, 2), (0.5, 0.6, 0.7)))
    assert {job.config["model"]["digit_head"] for job in planned} == {"joint"}


@pytest.mark.slow
def test_a_studys_lists_may_be_values(command, tmp_path, planned):
    grid = "{model: [mlp, siamese_mlp], model.body.hidden: [[8, 4], [2]]}"
    own_study(tmp_path, f"hydra: {{sweeper: {{params: {grid}}}}}\n")
    assert command("experiment=mine", "--config-dir", str(tmp_path / "own"), *DIGITS)[0] == 0
    models = [(job.config["model"]["digit_head"], job.config["model"]["body"]) for job in planned]
    found = [(head, body["hidden"]) for head, body in models]
    assert found == [(head, width) for head in ("joint", "per_image") for width in ([8, 4], [2])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "hydra: {sweeper: {params: {aux.lamda: [1, 2]}}}\n",
            "aux.lamda=[1,2] is not accepted: there is no such key; the keys here are lambda; "
            "did you mean lambda? (in {path})",
        ),
        (
            "optimizer: {rate: 0.1}\n",
            "optimizer.rate=0.1 is not accepted: one of lr, betas, eps, weight_decay",
        ),
        (
            "defaults: [/model: mlp]\n",
            "{path}: model has a choice already: write - override /model: mlp in defaults",
        ),
        (
            "defaults: [wang/sharing, _self_]\nhydra: {mode: RUN}\n",
            "hydra.sweeper.params={{variant:wang/mlp_vanilla,wang/mlp_shared,",
        ),
    ],
)
def test_a_fault_in_a_users_study_is_named(command, tmp_path, content, message):
    path = own_study(tmp_path, content)
    status, _, err = command("experiment=mine", "--config-dir", str(tmp_path / "own"), *DIGITS)
    assert status == 2 and f"error: {message.format(path=path)}" in err, err


@pytest.mark.slow
def test_equal_numbers_are_one_value(command):
    status, _, err = command(*DIGITS, "-m", "aux.lambda=0.5,5,5.0", "seed=0,1")
    message = "error: aux.lambda=5,5.0 is not accepted: each number once, and these are equal\n"
    assert status == 2 and message in err


@pytest.mark.slow
def test_missing_data_name_their_key_and_a_way_out(command, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_answers", lambda url: False)
    _, _, err = command("data=mnist", f"data.root={tmp_path / 'none'}")
    assert "name its folder by data.root or DIGITPAIRS_DATA, or use data=digits" in err
    _, _, err = command("data=idx", f"data.root={tmp_path}")
    assert "name its folder by data.root or DIGITPAIRS_DATA" in err


@pytest.mark.parametrize("name", ["min", "mine.yaml"])
def test_a_missing_folder_of_configs_is_refused(command, tmp_path, name):
    (tmp_path / "mine.yaml").touch()
    status, out, err = command("model=mlp", "--config-dir", str(tmp_path / name), *DIGITS)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: --config-dir {tmp_path / name} names no folder")


@pytest.mark.slow
def test_the_users_choices_are_offered_without_hidden_files(command, tmp_path):
    folder = tmp_path / "own" / "optimizer"
    folder.mkdir(parents=True)
    (folder / "momentum.yaml").write_text("defaults: [sgd]\nmomentum: 0.5\n")
    (folder / "heavy.yaml").write_text(
        "_target_: digitpairs.training.optimizers.SGD\nlr: 0.1\nmomentum: 0.5\n"
    )
    (folder / "._adam.yaml").write_bytes(b"\x00\x05\x16\x07\xff")
    own = ["--config-dir", str(tmp_path / "own"), *DIGITS]
    accepted = "one of heavy, momentum, adam, adamw, sgd; did you mean momentum?"
    refused = f"optimizer=momentun is not accepted: {accepted}"
    assert refused in command("optimizer=momentun", *own)[2]
    with_key = "optimizer=heavy or optimizer=momentum or optimizer=sgd has momentum"
    assert f"and {with_key}" in command("optimizer.momentum=0.1", *own)[2]
    assert "_adam" not in command("-m", "optimizer=glob(*)", "optimizer.foo=1", *own)[2]


def test_flags_stand_anywhere(tmp_path):
    own = ["--config-dir", str(tmp_path)]
    arguments = ["seed=0,1", *own, "data=digits", "-m", "aux.lambda=1"]
    normalized = ["-m", "seed=0,1", "data=digits", "aux.lambda=1", *own]
    assert normalize_arguments(arguments) == normalized


# Random arguments

BASES = [
    DIGITS,
    (*DIGITS, "engine=framework"),
    (*DIGITS, "model=siamese_mlp"),
    (*DIGITS, "model=mlp", "aux=convex", "optimizer=sgd", "scheduler=warm_restarts"),
    DISK,
    (*DISK, "engine=lightning", "loss=binary_cross_entropy"),
]
WORDS = (
    ["null", "true", "nan", "-inf", "1e400", "foo", "''", "'7'", "../x", "~/x", "$HOME", "a=b"]
    + ["/etc/passwd", "é", "???", "${seed}", "${nothing}", "${oc.env:HOME}", "0..3", "0.1..0.9"]
    + ["1,2", "[1,", "{a", "int(3)", "int(", "1_000", "builtins.dict", "os.getcwd"]
    + ["framework.MSE", "digitpairs.networks.CNNBody", "torch.optim.SGD"]
)
SCALARS = st.one_of(
    st.sampled_from([*WORDS, "a b", "\t", "3\r", "x" * 300]),
    st.integers().map(str),
    st.sampled_from([10**30, -(10**400)]).map(str),
    st.floats().map(str),
    st.text(max_size=6),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.dictionaries(st.sampled_from(["a", "1", "schedule", "_target_"]), inner, max_size=3).map(
            lambda items: "{" + ",".join(f"{key}:{value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=4,
)
FORMS = [
    *["{key}={value}"] * 4,
    "+{key}={value}",
    "++{key}={value}",
    "+{key}.foo={value}",
    "{key}.foo={value}",
    "~{key}",
    "~{key}={value}",
]


@functools.cache
def keys_of(base: tuple[str, ...]) -> list[str]:
    """All keys of the config, sections and leaves."""
    return list(_paths(OmegaConf.to_container(base_config(base), resolve=False)))


def _paths(section: dict, prefix: str = ""):
    for key, value in section.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")


@st.composite
def lines(draw) -> tuple[tuple[str, ...], str, str]:
    """Valid arguments, a key, and one more argument that changes the key."""
    base = draw(st.sampled_from(BASES))
    key = draw(st.one_of(*[st.sampled_from(keys_of(base))] * 4, st.sampled_from(GROUPS)))
    return base, key, draw(st.sampled_from(FORMS)).format(key=key, value=draw(VALUES))


def is_accepted_or_refused_by_name(base: tuple[str, ...], key: str, argument: str) -> None:
    message = refusal(base, argument)
    assert message is None or key in message or key.partition(".")[0] in message, message


@pytest.mark.slow
@pytest.mark.usefixtures("mnist_on_disk")
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(lines())
def test_any_argument_is_accepted_or_refused_by_name(line):
    is_accepted_or_refused_by_name(*line)


@pytest.mark.long
@pytest.mark.usefixtures("mnist_on_disk")
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(lines())
def test_any_of_a_thousand_arguments_is_accepted_or_refused_by_name(line):
    is_accepted_or_refused_by_name(*line)


@pytest.fixture
def mnist_on_disk(monkeypatch, mnist_like):
    """MNIST is not downloaded."""
    monkeypatch.setenv("DIGITPAIRS_DATA", str(mnist_like))
