"""Names of configurations and of their folders."""

import itertools

import pytest

from digitpairs import files
from digitpairs.cli import CONF
from digitpairs.names import display_names, text_of
from digitpairs.sweeps.compose import compose_command
from digitpairs.sweeps.jobs import Job, folder_names, plan_jobs
from digitpairs.sweeps.sweep import names_of as names_of_jobs


def jobs_of(*arguments: str) -> list[Job]:
    return plan_jobs(compose_command(CONF, ["data=digits", *arguments]))


def names_of(*arguments: str, with_configs: bool = True) -> tuple[str, list[str]]:
    """What the configurations of this command share, and their names.

    Without configs the names come from the folders alone.
    """
    jobs = jobs_of(*arguments)
    names = names_of_jobs(jobs)
    if not with_configs:
        names = display_names(dict.fromkeys(job.configuration for job in jobs))
    return names.shared, list(names.of.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "shared, grid",
    [
        ("siamese_cnn", {"model.body.hidden": ["[128,128]", "[32]", "[]"]}),
        ("siamese_cnn", {"model.batch_norm": ["true", "false"]}),
        ("siamese_cnn", {"trainer.gradient_clip_val": ["1.0", "null"]}),
        ("siamese_cnn", {"+trainer.check_val_every_n_epoch": ["1", "2"]}),
        ("siamese_cnn", {"aux.lambda": ["0.5", "{schedule:linear,start:0,end:1,epochs:2}"]}),
        ("siamese_cnn", {"aux": ["none", "lambda"], "optimizer": ["adam", "sgd"]}),
        ("wang/shared_mlp", {"variant": ["wang/mlp_aux", "wang/mlp_shared"]}),
        ("", {"model": ["azzano/cnn", "azzano/fcnn"]}),
        ("", {"model": ["siamese_cnn", "mlp"], "optimizer.lr": ["0.1", "0.2"]}),
    ],
)
def test_names_are_the_settings_that_differ_as_they_are_typed(shared, grid):
    arguments = [f"{key}={','.join(values)}" for key, values in grid.items()]
    settings = ([f"{key.lstrip('+')}={value}" for value in grid[key]] for key in grid)
    names = [" ".join(combination) for combination in itertools.product(*settings)]
    assert names_of(*arguments) == (shared, names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, names",
    [
        (["optimizer.lr=0.001,1e30"], ["optimizer.lr=0.001", "optimizer.lr=1e+30"]),
        (["data.seed=3,4", "seed=3,4"], ["data.seed=3", "data.seed=4"]),
    ],
)
def test_names_of_numbers_and_seeds(arguments, names):
    assert names_of(*arguments) == ("siamese_cnn", names)


def test_a_single_configuration_is_named_by_its_model():
    assert names_of("model=siamese_mlp", "seed=0,1") == ("", ["siamese_mlp"])


LONG = [
    "model=siamese_mlp",
    "model.body.dropout=0.1,0.2",
    "model.comparison_hidden=[32,32],[16,16]",
    "model.body.hidden=[24,24,24],[24,24,12]",
    "data.augmentation.shift=0,1",
]


@pytest.mark.slow
def test_names_have_settings_for_which_a_folders_name_is_too_short():
    shared, names = names_of(*LONG)
    assert shared == "siamese_mlp" and len(set(names)) == 16
    settings = [
        "model.body.dropout=0.1",
        "model.comparison_hidden=[32,32]",
        "model.body.hidden=[24,24,24]",
        "data.augmentation.shift=1",
    ]
    assert " ".join(settings) in names


@pytest.mark.slow
def test_without_configs_the_names_are_those_of_the_folders():
    shared, names = names_of("model.body.hidden=[128,128],[32]", with_configs=False)
    assert shared == "" and names == ["hidden=_128,128_", "hidden=_32_"]


def test_without_configs_names_that_are_cut_alike_are_whole_folders():
    folders = [f"{'a' * files.NAME_LENGTH}-{number:08d}" for number in range(3)]
    assert list(display_names(dict.fromkeys(folders)).of.values()) == folders


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_settings_that_were_not_typed_are_added_if_needed(known):
    """A setting that a config lacks is not named; without choices a class stands for its group."""
    commands = [
        ["model=mlp"],
        ["model=siamese_cnn"],
        ["model=mlp", "optimizer=adamw"],
        ["model=mlp", "+trainer.check_val_every_n_epoch=2"],
    ]
    jobs = [jobs_of(*command)[0] for command in commands]
    configs = {f"x-{i}{i}{i}{i}0000": job.config for i, job in enumerate(jobs)}
    origins = {folder: job.origin for folder, job in zip(configs, jobs)}
    names = list(display_names(configs, origins if known else None).of.values())
    body, optimizer = ("model=", "optimizer=") if known else ("model.body=", "optimizer=")
    choices = ["mlp", "siamese_cnn", "adam", "adamw"]
    classes = ["MLPBody", "CNNBody", "Adam", "AdamW"]
    mlp, cnn, adam, adamw = choices if known else classes
    assert names == [
        f"{body}{mlp} {optimizer}{adam}",
        f"{body}{cnn} {optimizer}{adam}",
        f"{body}{mlp} {optimizer}{adamw}",
        f"{body}{mlp} {optimizer}{adam} trainer.check_val_every_n_epoch=2",
    ]


OLD = {
    "siamese_mlp,optimizer.lr=0.1-12345678": {"optimizer": {"lr": 0.1}},
    "siamese_mlp,optimizer.lr=1e-3-12345679": {"optimizer": {"lr": 0.001}},
}


def test_older_runs_are_named_by_their_folders_and_configs():
    names = display_names(OLD)
    assert names.shared == "siamese_mlp"
    assert list(names.of.values()) == ["optimizer.lr=0.1", "optimizer.lr=0.001"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, sweep, configurations",
    [
        (["model=siamese_mlp", "aux.lambda=0.8"], "siamese_mlp,lambda=0.8", ["siamese_mlp"]),
        (["optimizer.lr=0.1,0.2"], "siamese_cnn", ["lr=0.1", "lr=0.2"]),
        (["model=mlp,siamese_mlp", "seed=0,1"], "models", ["mlp", "siamese_mlp"]),
        (
            ["model=mlp,siamese_mlp", "trainer.max_epochs=3", "aux=none,lambda"],
            "max_epochs=3",
            [
                f"{model},aux={aux}"
                for model in ("mlp", "siamese_mlp")
                for aux in ("none", "lambda")
            ],
        ),
        (  # both keys end in the same word
            ["data.augmentation.scale=0.1,0.2", "+optimizer.scale=1"],
            "siamese_cnn,+optimizer.scale=1",
            ["data.augmentation.scale=0.1", "data.augmentation.scale=0.2"],
        ),
    ],
)
def test_folders_have_short_names(arguments, sweep, configurations):
    jobs = compose_command(CONF, arguments)
    names = folder_names(jobs)
    assert names.sweep == sweep
    assert list(dict.fromkeys(names.configurations)) == configurations


@pytest.mark.slow
def test_folders_are_found_again_by_their_digests(tmp_path):
    """As after an upgrade that names them differently."""
    command = ["optimizer.lr=0.1,0.2", f"output={tmp_path}"]
    first = jobs_of(*command)[0].folder
    renamed = tmp_path / f"old-{first.parts[-3][-8:]}" / f"older-{first.parts[-2][-8:]}"
    renamed.mkdir(parents=True)
    one, other = jobs_of(*command)
    assert one.folder.parent == renamed
    assert other.folder.parent.parent == renamed.parent


@pytest.mark.slow
def test_seeds_that_follow_the_runs_seed_are_not_part_of_names():
    (one,) = jobs_of("model=mlp", "seed=1", "optimizer.lr=0.1")
    (other,) = jobs_of("model=mlp", "seed=2", "optimizer.lr=0.2")
    names = display_names({"mlp-00000000": one.config, "mlp-11111111": other.config})
    assert list(names.of.values()) == ["optimizer.lr=0.1", "optimizer.lr=0.2"]


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "null"),
        (True, "true"),
        (1, "1"),
        (0.001, "0.001"),
        ("a b", "a b"),
        ([], "[]"),
        ([1, [2, None]], "[1,[2,null]]"),
        ({"a": [1], "b": {}}, "{a:[1],b:{}}"),
    ],
)
def test_values_as_they_are_typed(value, text):
    assert text_of(value) == text
