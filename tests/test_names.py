"""Names of configurations: the settings in which they differ, as they are typed."""

import itertools

import pytest

from digitpairs.names import display_names, text_of
from digitpairs.cli import CONF
from digitpairs.sweeps.compose import compose_command
from digitpairs.sweeps.jobs import plan_jobs


def named(*arguments: str, with_configs: bool = True) -> tuple[str, list[str]]:
    """What the configurations of this command share, and their names; by their folders alone without configs."""
    jobs = plan_jobs(compose_command(CONF, ["data=digits", *arguments]))
    names = display_names({job.configuration: job.config if with_configs else None for job in jobs})
    return names.shared, list(names.of.values())


@pytest.mark.parametrize(
    "arguments, shared, names",
    [
        (["model=siamese_mlp", "seed=0,1"], "", ["siamese_mlp"]),
        (["optimizer.lr=0.001,1e30"], "siamese_cnn", ["optimizer.lr=0.001", "optimizer.lr=1e+30"]),
        (["model=siamese_mlp", "model.body.hidden=[128,128],[32],[]"], "siamese_mlp", [f"model.body.hidden={each}" for each in ("[128,128]", "[32]", "[]")]),
        (["model.batch_norm=true,false"], "siamese_cnn", ["model.batch_norm=true", "model.batch_norm=false"]),
        (["trainer.gradient_clip_val=1.0,null"], "siamese_cnn", ["trainer.gradient_clip_val=1.0", "trainer.gradient_clip_val=null"]),
        (["aux.lambda=0.5,{schedule:linear,start:0,end:1,epochs:2}"], "siamese_cnn", ["aux.lambda=0.5", "aux.lambda={schedule:linear,start:0,end:1,epochs:2}"]),
        (["model=siamese_cnn,mlp"], "", ["model=siamese_cnn", "model=mlp"]),
        (["model=siamese_cnn,mlp", "optimizer.lr=0.1,0.2"], "", [f"model={m} optimizer.lr={lr}" for m, lr in itertools.product(("siamese_cnn", "mlp"), ("0.1", "0.2"))]),
        (["model=azzano/cnn,azzano/fcnn"], "", ["model=azzano/cnn", "model=azzano/fcnn"]),
        (["variant=wang/mlp_aux,wang/mlp_shared"], "wang/shared_mlp", ["variant=wang/mlp_aux", "variant=wang/mlp_shared"]),
        (["aux=none,lambda", "optimizer=adam,sgd"], "siamese_cnn", [f"aux={a} optimizer={o}" for a, o in itertools.product(("none", "lambda"), ("adam", "sgd"))]),
        (["data.seed=3,4", "seed=3,4"], "siamese_cnn", ["data.seed=3", "data.seed=4"]),
        (["+trainer.check_val_every_n_epoch=1,2"], "siamese_cnn", ["trainer.check_val_every_n_epoch=1", "trainer.check_val_every_n_epoch=2"]),
    ],
)  # fmt: skip
def test_names_are_what_was_typed(arguments, shared, names):
    assert named(*arguments) == (shared, names)


LONG = [
    "model=siamese_mlp",
    "model.body.dropout=0.1,0.2",
    "model.comparison_hidden=[32,32],[16,16]",
    "model.body.hidden=[24,24,24],[24,24,12]",
    "data.augmentation.shift=0,1",
]


def test_what_a_folders_name_has_no_room_for_is_in_the_name():
    shared, names = named(*LONG)
    assert shared == "siamese_mlp" and len(set(names)) == 16
    assert (
        "model.body.dropout=0.1 model.comparison_hidden=[32,32] model.body.hidden=[24,24,24] data.augmentation.shift=1"
        in names
    )


def test_configs_that_cannot_be_read_leave_the_folders_names():
    assert named("model.body.hidden=[128,128],[32]", with_configs=False) == (
        "siamese_cnn",
        ["model.body.hidden=_128,128_", "model.body.hidden=_32_"],
    )
    names = named(*LONG, with_configs=False)[1]
    assert len(set(names)) == 16 and all(
        name.startswith("siamese_mlp,") for name in names
    )  # cut alike: the whole folders, digests too


def test_settings_beside_those_in_the_folders_names_are_added_where_these_do_not_suffice():
    """A class stands for a choice that the folder's name does not have; a setting that a config has not is not named."""
    asked = [
        ["model=mlp"],
        ["model=siamese_cnn"],
        ["model=mlp", "optimizer=adamw"],
        ["model=mlp", "+trainer.check_val_every_n_epoch=2"],
    ]
    jobs = [plan_jobs(compose_command(CONF, ["data=digits", *each]))[0] for each in asked]
    configs = {f"x-{place}{place}{place}{place}0000": job.config for place, job in enumerate(jobs)}
    assert list(display_names(configs).of.values()) == [
        "model.body=MLPBody optimizer=Adam",
        "model.body=CNNBody optimizer=Adam",
        "model.body=MLPBody optimizer=AdamW",
        "model.body=MLPBody optimizer=Adam trainer.check_val_every_n_epoch=2",
    ]


def test_seeds_that_follow_the_runs_tell_nothing_apart():
    one, other = (
        plan_jobs(
            compose_command(
                CONF, ["data=digits", f"seed={seed}", "model=mlp", f"optimizer.lr={lr}"]
            )
        )[0]
        for seed, lr in ((1, 0.1), (2, 0.2))
    )
    assert list(
        display_names({"mlp-00000000": one.config, "mlp-11111111": other.config}).of.values()
    ) == ["optimizer.lr=0.1", "optimizer.lr=0.2"]


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
