"""The fake fleet that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ringtasks.testing import FakeFleet, fake_fleet


@pytest.fixture
def fleet() -> Iterator[FakeFleet]:
    with fake_fleet("gpu1", "gpu2") as fleet:
        yield fleet
