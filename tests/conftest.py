"""Gives all tests the shared fixtures."""

from __future__ import annotations

import collections
import gc
import os
import random
import re
import signal
import sys
import venv
from collections.abc import Generator

import hypothesis
import pytest

# The tests start thousands of Python processes; without bytecode each of them compiles all that it
# imports, which takes longer than most tests. pytest keeps its rewritten modules the same way.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Other tests load the machine: how long an example takes says nothing about the code.
for profile, count in (("suite", 25), ("long", 500)):
    hypothesis.settings.register_profile(
        profile,
        max_examples=count,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("suite")

pytest_plugins = ["tests.support.fixtures", "tests.support.users"]

# A script that starts the suite in its background leaves it Ctrl-C ignored (POSIX.1-2017 XCU 2.11),
# nohup leaves it SIGHUP ignored, and so would be all that the tests start, and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)

IS_CI = bool(os.environ.get("CI"))
#: Tests of what runs over any link and in any shell.
_ABOVE_LINKS = re.compile("tests/(deploy|jobs|tasks|training|transfer)/")


def pytest_configure(config: pytest.Config) -> None:
    """Keep Matplotlib's list of fonts: each test has a home of its own, without one.

    The hosts' ``python3`` is a bare one. A wrapper such as pyenv's, or a ``.pth`` file that imports
    something, takes several times as long to start.
    """
    if config.cache is None:
        return
    os.environ["MPLCONFIGDIR"] = str(config.cache.mkdir("matplotlib"))
    if not hasattr(config, "workerinput"):  # the workers inherit PATH
        programs = config.cache.mkdir("python") / "bin"
        if not (programs / "python3").exists():
            venv.create(programs.parent, symlinks=True)
        os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests, which all stay, without the collector of what does not."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the rarer cases of each test to the long run.

    Of a marked matrix that is all but some cases, the same ones each time. Of any other test with
    several parameters it is what is not needed for each of their values to occur once. Above the
    links and shells, half of a fixture's values occur, in each test of a module other ones.
    """
    tests: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    had: collections.Counter[object] = collections.Counter()
    for name, cases in tests.items():
        random.Random(name).shuffle(cases)
        marker = cases[0].get_closest_marker("matrix")
        rarer = _rarer_values(cases, had) if _ABOVE_LINKS.match(name) else set()
        for case in cases[marker.args[0] :] if marker else _with_known_values(cases, rarer):
            case.add_marker(pytest.mark.long)


def _rarer_values(
    cases: list[pytest.Function], had: collections.Counter[object]
) -> set[tuple[object, ...]]:
    """The values of fixtures that a test does not need.

    :param had: how many tests of each module had which value; this one's are added.
    """
    fixtures: dict[object, dict[tuple[object, ...], None]] = {}  # in the order of the cases
    for case in cases:
        for value in _values(case):
            if isinstance(value[0], str):
                fixtures.setdefault(value[0], {})[value] = None
    rarer = set()
    for values in fixtures.values():
        order = sorted(values, key=lambda value: had[cases[0].path, value])
        half = (len(order) + 1) // 2
        had.update((cases[0].path, value) for value in order[:half])
        rarer.update(order[half:])
    return rarer


def _with_known_values(
    cases: list[pytest.Function], rarer: set[tuple[object, ...]]
) -> list[pytest.Function]:
    """The cases that can be left out: the others have each value of each parameter but those."""
    values = {case: _values(case) for case in cases}
    missing, left = set().union(*values.values()) - rarer, list(cases)
    while missing:
        chosen = max(left, key=lambda case: len(missing & values[case]))
        missing -= values[chosen]
        left.remove(chosen)
    return left


def _values(case: pytest.Function) -> set[tuple[object, ...]]:
    """The values of a test's parameters; those of one decorator are one value."""
    left, found = dict(case.callspec.params), set()
    for marker in case.iter_markers("parametrize"):
        names = marker.args[0]
        names = names.replace(",", " ").split() if isinstance(names, str) else names
        found.add(tuple((name, id(left.pop(name))) for name in names))
    return {*found, *((name, id(value)) for name, value in left.items())}


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
    parser.addoption("--seeds", type=int, default=10, help="the number of seeds of random tests")
    parser.addoption("--first-seed", type=int, default=None, help="their first seed")


@pytest.fixture
def given_seeds(pytestconfig: pytest.Config) -> range | None:
    """The seeds that the options choose for a random test."""
    first: int | None = pytestconfig.getoption("--first-seed")
    return None if first is None else range(first, first + pytestconfig.getoption("--seeds"))
