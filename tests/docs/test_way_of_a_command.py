"""The way of one command, as docs/architecture.md draws and lists it."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from invoke import Context

import ringtasks
from ringtasks.tasks import namespace
from tests.support.fixtures import WriteHosts

PACKAGE = f"{Path(ringtasks.__file__).parent}/"
SECTION = (
    (Path(__file__).parents[2] / "docs" / "architecture.md")
    .read_text()
    .partition("## The way of one command")[2]
    .partition("If no master is running")[0]
)
#: The functions of the package that may be on the stack when bytes are written to a socket.
MOST_FRAMES = 10


class Profile:
    """The modules that a call passes, and the package's part of the stack at each socket write."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.writes: list[list[str]] = []

    def of(self, call: Callable[[], object]) -> Profile:
        sys.setprofile(self._see)
        try:
            call()
        finally:
            sys.setprofile(None)
        return self

    def _see(self, frame: FrameType, event: str, argument: Any) -> None:
        module = module_of(frame.f_code)
        if event == "call" and module:
            self.passed.add(module)
        if event == "c_call" and argument.__name__ in ("sendall", "sendmsg"):
            self.writes.append(stack(frame))


def stack(frame: FrameType | None) -> list[str]:
    found: list[str] = []
    while frame is not None:
        found.append(module_of(frame.f_code))
        frame = frame.f_back
    return [module for module in reversed(found) if module]


def module_of(code: CodeType) -> str:
    """Return ``folder/module`` of a function of the package, else an empty string."""
    is_ours = code.co_filename.startswith(PACKAGE) and code.co_name != "<module>"
    return code.co_filename.removeprefix(PACKAGE).removesuffix(".py") if is_ours else ""


def steps(modules: list[str]) -> set[tuple[str, str]]:
    return {(a, b) for a, b in itertools.pairwise(modules) if a != b}


def drawn_steps() -> set[tuple[str, str]]:
    names = dict(re.findall(r'(\w+)\["([\w/]+)"\]', SECTION))
    lines = re.findall(r"^ +(\w+)\S* --> (\w+)", SECTION, re.MULTILINE)
    return {(names[a], names[b]) for a, b in lines}


def listed_modules() -> set[str]:
    rows = re.findall(r"^\| `([\w/]+)` \| ([^|]+) \|", SECTION, re.MULTILINE)
    return {folder + name for folder, names in rows for name in re.findall(r"`(\w+)`", names)}


@pytest.fixture
def profile(write_hosts: WriteHosts) -> Profile:
    """The profile of a command over a master that is already running."""
    hosts = write_hosts(box={"use_control_master": True})

    def run() -> None:
        namespace["run"](Context(), host="box", cmd="true", inventory=str(hosts))

    run()
    return Profile().of(run)


def test_warm_command_follows_the_documented_steps(profile: Profile) -> None:
    assert set().union(*map(steps, profile.writes)) == drawn_steps()
    # The last writes the health file only if the command took too long for the prepared file.
    assert profile.passed | {"common/atomic_file"} == listed_modules()
    assert max(map(len, profile.writes)) <= MOST_FRAMES
