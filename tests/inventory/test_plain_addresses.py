"""The words of a selector that are addresses."""

from __future__ import annotations

import pytest

from ringtasks.inventory.model import Inventory
from ringtasks.inventory.plain_addresses import plain_hosts


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("idle > 1.5m", []),
        ("@all & price_per_hour<= 1.25,u@h", ["u@h"]),
        ("disk_gb >2.5 & load < 0.5, 192.0.2.1", ["192.0.2.1"]),
        ("role = v1.2,!h:22", ["h:22"]),
        ("@all & load < 1,me@corp.example@h:22", ["me@corp.example@h:22"]),
    ],
)
def test_values_of_comparisons_are_no_addresses(expression: str, expected: list[str]) -> None:
    assert list(plain_hosts(expression, Inventory({}), lambda _: False)) == expected
