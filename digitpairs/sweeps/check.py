"""Whether configs can be run, found out before anything trains or is written; and which runs could train at once.

Each section is checked, and each combination of them, once however many jobs share it: a thousand seeds are checked in
the time of one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from digitpairs.engines import get_engine


class Checker:
    """Checks one config after another, and remembers what it has checked."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}

    def check(self, config: Mapping[str, Any]) -> Hashable | None:
        """See `Engine.check`."""
        return get_engine(config).check(config, self._once)

    def _once(self, name: str, section: Any, work: Callable[[Any], Any]) -> Any:
        key = (name, json.dumps(section, sort_keys=True))
        if key not in self._known:
            self._known[key] = work(section)
        return self._known[key]
