"""Checks of arguments as the command makes them, in less time: Hydra composes each base once."""

from __future__ import annotations

import functools
import re
import sys

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from digitpairs.arguments import check_arguments, normalize_arguments
from digitpairs.configs import CONF, install_config_source
from digitpairs.errors import error_message, is_user_error
from digitpairs.sweeps.check import Checker
from digitpairs.sweeps.compose import compose_one
from digitpairs.sweeps.jobs import plan_jobs
from digitpairs.sweeps.plan import settings_of

GROUPS = sorted({path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra", "reports"})
DIGITS = ("data=digits", "data.pairs=60", "data.test_pairs=40")
DISK = ("task=disk",)


@functools.cache
def loader() -> ConfigLoader:
    """Hydra's loader of the project's configs."""
    install_config_source()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return GlobalHydra.instance().config_loader()


@functools.cache
def base_config(base: tuple[str, ...]) -> DictConfig:
    """The config of these arguments, without Hydra's own section."""
    config = loader().load_configuration("config", list(base), run_mode=RunMode.RUN)
    with open_dict(config):
        config.pop("hydra")
    return config


def composed(base: tuple[str, ...], argument: str) -> DictConfig:
    """The config of the base and one more argument. Hydra composes each base once."""
    if re.split("[=@]", argument.lstrip("+~"))[0] in GROUPS:
        return base_config.__wrapped__((*base, argument))
    config = base_config(base).copy()
    overrides = OverridesParser.create().parse_overrides([argument])
    ConfigLoaderImpl._apply_overrides_to_config(overrides, config)
    return config


def config_of(base: tuple[str, ...], argument: str) -> dict:
    """The checked config of the only job of these arguments; the last one replaces its key."""
    key = argument.partition("=")[0]
    arguments = [*(each for each in base if each.partition("=")[0] != key), argument]
    sys.argv = ["train.py", *arguments]
    check_arguments(arguments)
    *rest, normalized = normalize_arguments(arguments)
    request = compose_one(
        composed(tuple(rest), normalized), [*rest, normalized], {"model": "network"}
    )
    settings_of(request.config.get("sweep", {}))
    (job,) = plan_jobs([request])
    Checker().check(job.config)
    return job.config


def refusal(base: tuple[str, ...], argument: str) -> str | None:
    """The message that refuses the argument, or None; raises errors that are bugs."""
    before = sys.argv
    try:
        config_of(base, argument)
    except Exception as error:  # as the command does: what is no user's error is raised again
        if not is_user_error(error):
            raise
        return error_message(error)
    finally:
        sys.argv = before
    return None


def assert_refused(base: tuple[str, ...], argument: str, accepted: str) -> None:
    """AssertionError unless the argument's value is refused, with what is accepted in its place."""
    message = refusal(base, argument)
    expected = f"{argument.lstrip('+')} is not accepted: {accepted}"
    assert message and message.lower().startswith(expected.lower()), message
