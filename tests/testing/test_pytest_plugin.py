"""The pytest plugin, and the examples of the page on testing."""

from __future__ import annotations

import re

import pytest

from tests.support.fixtures import ROOT

pytest_plugins = ["pytester"]


def test_pytest_plugin_provides_a_fresh_fleet_to_each_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        NAMES = ("fabric", "paramiko", "ringtasks.client.ssh_client")
        HEAVY = [m for m in NAMES if m in sys.modules]

        def test_it_loads_nothing_by_itself():
            assert HEAVY == []

        def test_one(ringtasks_fleet):
            from ringtasks import get_ssh_client
            ringtasks_fleet.add("gpu1").on("x", stdout="y")
            assert get_ssh_client("gpu1").run("x").stdout == "y"

        def test_two(ringtasks_fleet):
            assert list(ringtasks_fleet) == []
        """
    )

    result = pytester.runpytest_subprocess("-W", "error")

    result.assert_outcomes(passed=3)


def test_pytest_examples_in_the_docs_pass(pytester: pytest.Pytester) -> None:
    text = (ROOT / "docs" / "testing.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    pytester.makepyfile(**{f"test_{n}": block for n, block in enumerate(blocks)})

    result = pytester.runpytest_subprocess("-W", "error")

    assert len(blocks) == 5
    result.assert_outcomes(passed=5)
