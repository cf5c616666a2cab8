"""The versions of packages, without `importlib.metadata`.

Paramiko asks for its own version when it is imported.  `importlib.metadata` loads 30 modules to
answer, which is a twentieth of a short command's time.  The name of the folder beside the package
has the version (Binary distribution format, "The .dist-info directory").
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from .program_name import is_program

__all__ = ["quick_versions"]

_NAME = "importlib.metadata"


@contextlib.contextmanager
def quick_versions() -> Iterator[None]:
    """Answer questions for versions while the block imports packages, in any thread.

    Whatever else the block uses of `importlib.metadata` is that of the real module.  Only in a
    program of ours: in a caller's process, other threads may import what they like.
    """
    if _NAME in sys.modules or not is_program():
        yield
        return
    stand_in = sys.modules[_NAME] = _Versions(_NAME)
    try:
        yield
    finally:
        stand_in.leave()


class _Versions(ModuleType):
    """A stand-in for `importlib.metadata`, which loads it if it is asked for anything else."""

    def version(self, name: str) -> str:
        found: str = version_beside(name) or self.real.version(name)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    @property
    def real(self) -> Any:
        self.leave()
        return importlib.import_module(_NAME)

    def leave(self) -> None:
        """Let the next import of the name find the real module."""
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]


def version_beside(name: str) -> str | None:
    """Return the version of an installed package; None: its folder does not tell."""
    spec = PathFinder.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    start, end = f"{name}-", ".dist-info"
    try:
        beside = os.listdir(os.path.dirname(os.path.dirname(spec.origin)))  # noqa: PTH120, PTH208  # strings: pathlib takes longer
    except OSError:
        return None
    found = [each for each in beside if each.startswith(start) and each.endswith(end)]
    return found[0][len(start) : -len(end)] if len(found) == 1 else None
