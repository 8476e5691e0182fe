"""Composition of a sweep's configs, and which of them can train together."""

import copy
import functools

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import MissingMandatoryValue, OmegaConf
from omegaconf.errors import InterpolationKeyError

from digitpairs import configs
from digitpairs.cli import CONF
from digitpairs.configs import FileConfigSource
from digitpairs.sweeps.check import Checker
from digitpairs.sweeps.compose import JobRequest, compose_command, compose_sweep
from digitpairs.sweeps.interpolations import ResolvedConfig
from digitpairs.sweeps.jobs import NEUTRAL_DEFAULTS, fingerprint, plan_jobs

SWEEP = [
    ["seed=0", "aux.lambda=0.5"],
    ["seed=1", "aux.lambda=0.5"],
    ["seed=1", "aux.lambda={schedule:linear,start:0,end:1,epochs:2}"],
    ["seed=2", "aux.lambda=0.7"],
    ["seed=3", "model=mlp", "data.seed=7"],
    ["seed=4", "model=mlp", "data.seed=7"],
    ["seed=5", "data.root=null"],
    ["seed=6", "data.root=a b"],
    ["seed=6", "data.augmentation.shift=1", "optimizer=sgd"],
    ["seed=7", "data.augmentation.shift=2", "optimizer=sgd"],
    ["seed=0", "aux.lambda=1"],
    ["seed=1", "experiment=skura/open/rounds_of_each_epoch_count", "trainer.max_epochs=6"],
    ["seed=2", "experiment=skura/open/rounds_of_each_epoch_count", "trainer.max_epochs=12"],
    ["seed=3", "data.seed=${seeds.order}", "seeds.order=4"],
    ["seed=4", "data.seed=${seeds.order}", "seeds.order=5"],
    ["seed=5", "callbacks=[model_checkpoint]", "early_stopping.monitor=train/loss"],
    ["seed=6", "callbacks=[model_checkpoint]", "early_stopping.monitor=validation/loss"],
]
NUMBERS = [
    "seed=3",
    "data.seed=4",
    "data.augmentation.shift=1",
    "aux.lambda=0.3",
    "optimizer.lr=0.1",
    "optimizer.weight_decay=0.1",
    "optimizer.betas=[0.8,0.9]",
    "scheduler=step",
    "trainer.gradient_clip_val=1",
    "early_stopping.patience=2 early_stopping.monitor=train/loss",
]
KINDS = [
    "data.batch_size=50",
    "data.pairs=500",
    "data.validation=0.1",
    "model=mlp",
    "aux=gamma",
    "optimizer=adamw",
    "trainer.max_epochs=3",
]


def composed(*sweep: list[str]) -> list[JobRequest]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
        return compose_sweep(loader, master, sweep)


def keys(*sweep: str) -> list:
    """The keys of the jobs: jobs with equal keys can train together."""
    checker = Checker()
    jobs = plan_jobs(composed(*(["data=digits", *overrides.split()] for overrides in sweep)))
    return [checker.check(job.config) for job in jobs]


@pytest.mark.slow
def test_configs_composed_once_equal_those_that_hydra_composes():
    requests = composed(*SWEEP)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides, request in zip(SWEEP, requests):
            expected = compose("config", overrides=overrides)
            assert request.config == OmegaConf.to_container(expected, resolve=True)
            assert request.overrides == overrides
            assert request.choices["model"] == (
                "mlp" if "model=mlp" in overrides else "siamese_cnn"
            )
    assert requests[0].pattern == requests[1].pattern != requests[3].pattern
    pattern = requests[4].pattern
    assert pattern["seed"] == pattern["seeds"]["order"] == "*"
    assert pattern["data"]["seed"] == 7


INTERPOLATED = """
seed: 1
name: run
empty: null
section: {width: 3, seed: "${seed}", twice: "${.seed}", of_empty: "${empty}"}
text: "${name}-${seed}"
decoded: "${oc.decode:'[${seed}, 2]'}"
chain: "${section.twice}"
through: "${copy.seed}"
escaped: '\\${seed}'
copy: "${section}"
list: ["${seed}", {inner: "${chain}"}, 5]
"""


def test_interpolations_are_resolved_as_omegaconf_does():
    config = OmegaConf.create(INTERPOLATED)
    resolved = ResolvedConfig(OmegaConf.create(INTERPOLATED))
    values = [("seed", 2), ("seed", "*"), ("section.width", [1, 2]), ("empty", 0), ("text", "t")]
    for key, value in [("seed", 1), *values, ("list.2", None), ("section.seed", 9)]:
        OmegaConf.update(config, key, value)
        resolved.set(key, value)
        assert resolved.container() == OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize(
    "text, error", [("a: ???", MissingMandatoryValue), ("a: ${b}", InterpolationKeyError)]
)
def test_a_value_that_is_missing_is_omegaconfs_error(text, error):
    with pytest.raises(error):
        ResolvedConfig(OmegaConf.create(text)).container()


@pytest.mark.slow
def test_each_combination_of_choices_is_composed_once(monkeypatch):
    calls = []
    original = ConfigLoaderImpl.load_sweep_config

    def load_sweep_config(loader, *arguments, **named):
        calls.append(arguments)
        return original(loader, *arguments, **named)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", load_sweep_config)
    sweep = [
        [f"seed={seed}", f"optimizer.lr={rate}", f"model={model}"]
        for seed in range(20)
        for rate in (0.1, 0.2)
        for model in ("mlp", "cnn")
    ]
    assert len(composed(*sweep)) == 80
    assert len(calls) == 2


def test_a_config_file_is_parsed_again_only_when_it_has_changed(tmp_path, monkeypatch):
    source, file = FileConfigSource("main", str(tmp_path)), tmp_path / "some.yaml"
    parsed, check_choice = [], configs.check_choice
    monkeypatch.setattr(
        configs, "check_choice", lambda *names: parsed.append(names) or check_choice(*names)
    )
    for rate in (1, 2):
        file.write_text(f"rate: {rate}")
        for _ in range(2):
            config = source.load_config("some").config
            assert config == {"rate": rate}
            config.rate = 3  # as Hydra changes what it loads
        assert len(parsed) == rate


@pytest.mark.slow
def test_runs_that_differ_in_numbers_train_together():
    assert len(set(keys("seed=9", *NUMBERS))) == 1


@pytest.mark.slow
def test_runs_of_different_kinds_do_not_train_together():
    assert len(set(keys("", *KINDS))) == 1 + len(KINDS)


@pytest.mark.slow
def test_folds_train_together():
    (key,) = set(keys(*(f"data.folds=5 data.fold={fold}" for fold in range(5))))
    assert key is not None


OTHER_VALUES = {
    "label_smoothing": 0.1,
    "ensemble_size": 2,
    "ema": 0.5,
    "calibrate": "temperature",
    "tta": 1,
    "scheduler.delay": 1,
    "data.polarity": "dark_on_light",
    "data.redraw": True,
    "data.augmentation.erase": 3,
}


@functools.cache
def config_with_all_settings() -> dict:
    """A config that has all keys of NEUTRAL_DEFAULTS."""
    (job,) = plan_jobs(composed(["seed=0", "data=digits", "scheduler=warm_restarts"]))
    return job.config


@pytest.mark.parametrize("path", NEUTRAL_DEFAULTS)
def test_a_fingerprint_from_before_a_setting_existed_equals_that_of_its_default(path):
    *parents, key = path.split(".")
    before, other = (copy.deepcopy(config_with_all_settings()) for _ in range(2))
    del functools.reduce(dict.__getitem__, parents, before)[key]
    functools.reduce(dict.__getitem__, parents, other)[key] = OTHER_VALUES[path]
    assert fingerprint(before) == fingerprint(config_with_all_settings()) != fingerprint(other)


@functools.cache
def folders(*overrides: str) -> set[tuple[str, str]]:
    """The folders of the sweep and of the configurations of these jobs."""
    jobs = plan_jobs(compose_command(CONF, ["data=digits", "model=mlp", *overrides]))
    return {(job.folder.parts[-3], job.folder.parts[-2]) for job in jobs}


@pytest.mark.slow
@pytest.mark.parametrize("same", ["seed=3", "seed=0,1", "output=elsewhere", "sweep.plan=serial"])
def test_folders_do_not_depend_on_seeds_paths_and_plans(same):
    assert folders(same) == folders()


@pytest.mark.slow
@pytest.mark.parametrize("other", ["data.seed=0", "optimizer.lr=0.004"])
def test_folders_depend_on_other_settings(other):
    ((sweep, configuration),), ((other_sweep, other_configuration),) = folders(), folders(other)
    assert sweep != other_sweep and configuration != other_configuration
