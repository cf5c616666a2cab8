"""Python's garbage collector, while much is made or loaded."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from ringtasks.common.collector import seldom


@pytest.fixture(autouse=True)
def threshold() -> Iterator[None]:
    usual = gc.get_threshold()
    yield
    gc.set_threshold(*usual)


@pytest.mark.parametrize("own", [700, 0, 1_000_000])
def test_threshold_is_raised_within_the_outermost_block_alone(own: int) -> None:
    gc.set_threshold(own, 11, 12)

    first, second = seldom(), seldom()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    within = gc.get_threshold()
    second.__exit__(None, None, None)

    assert within == ({700: 20_000}.get(own, own), 11, 12)
    assert gc.get_threshold() == (own, 11, 12)
