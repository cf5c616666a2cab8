"""Fake hosts for the tests of programs built on ringtasks: they record and answer, offline.

::

    with ringtasks.testing.fake_fleet("gpu1", "gpu2") as fleet:
        fleet["gpu1"].on("nvidia-smi*", stdout="H100\\n")
        assert get_ssh_client("gpu1").run("nvidia-smi -L").stdout == "H100\\n"
        assert fleet["gpu1"].commands == ["nvidia-smi -L"]

The whole client is real, including the scripts that it sends; only the link is replaced.

The names are loaded at first use, because pytest loads the plugin of this folder in every project.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fleet import FakeFleet, fake_fleet
    from .host import FakeHost
    from .rules import Answer, Call

__all__ = ["Answer", "Call", "FakeFleet", "FakeHost", "fake_fleet"]

_HOMES = {
    "Answer": "rules",
    "Call": "rules",
    "FakeFleet": "fleet",
    "FakeHost": "host",
    "fake_fleet": "fleet",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
