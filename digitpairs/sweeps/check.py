"""Checks of configs before anything is trained or written."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from digitpairs.engines import get_engine
from digitpairs.sweeps.loggers import check_loggers


class Checker:
    """Checks the configs of a sweep one by one.

    Each distinct section, and each distinct combination of sections, is checked once, so that
    checking a thousand seeds takes as long as checking one.
    """

    def __init__(self) -> None:
        self._outcomes: dict[tuple[str, str], Any] = {}

    def check(self, config: Mapping[str, Any]) -> Hashable | None:
        """See `Engine.check`; the loggers are checked as well."""
        self._check_once("logger", config.get("logger"), check_loggers)
        return get_engine(config).check(config, self._check_once)

    def why_alone(self, config: Mapping[str, Any]) -> str | None:
        """See `Engine.why_alone`; for a config that is checked."""
        return get_engine(config).why_alone(config, self._check_once)

    def _check_once(self, name: str, section: Any, check: Callable[[Any], Any]) -> Any:
        key = (name, json.dumps(section, sort_keys=True))
        if key not in self._outcomes:
            self._outcomes[key] = check(section)
        return self._outcomes[key]
