"""Gives all tests the shared fixtures."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Generator

import hypothesis
import pytest

# The tests start thousands of Python processes; without bytecode each of them compiles all that it
# imports, which takes longer than most tests. pytest keeps its rewritten modules the same way.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Other tests load the machine: how long an example takes says nothing about the code.
hypothesis.settings.register_profile(
    "suite", max_examples=50, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

pytest_plugins = ["tests.support.fixtures", "tests.support.users"]

# A script that starts the suite in its background leaves it Ctrl-C ignored (POSIX.1-2017 XCU 2.11),
# nohup leaves it SIGHUP ignored, and so would be all that the tests start, and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)

IS_CI = bool(os.environ.get("CI"))


def pytest_configure(config: pytest.Config) -> None:
    """Keep Matplotlib's list of fonts: each test has a home of its own, without one."""
    if config.cache is not None:
        os.environ["MPLCONFIGDIR"] = str(config.cache.mkdir("matplotlib"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave all but some cases of each marked matrix to the long run, the same ones each time."""
    matrices: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("matrix"):
            matrices.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, cases in matrices.items():
        marker = cases[0].get_closest_marker("matrix")
        assert marker is not None
        random.Random(name).shuffle(cases)
        for case in cases[marker.args[0] :]:
            case.add_marker(pytest.mark.long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failure: nothing that it needs may be missing there."""
    report = yield
    if IS_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the tests that are made from random seeds."""
    parser.addoption("--seeds", type=int, default=20, help="the number of seeds of tests/faults")
    parser.addoption("--first-seed", type=int, default=None, help="its first seed (default: any)")
