"""The pytest plugin: the fixture `ringtasks_fleet`.

pytest loads it in every project with ringtasks installed, so it imports ringtasks only when used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from . import FakeFleet

__all__ = ["ringtasks_fleet"]


@pytest.fixture
def ringtasks_fleet() -> Iterator[FakeFleet]:
    """An empty fleet of fake hosts (`ringtasks.testing.fake_fleet`) for this test: add hosts."""
    from . import fake_fleet

    with fake_fleet() as fleet:
        yield fleet
