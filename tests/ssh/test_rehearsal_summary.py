"""The last line of a rehearsal tells the strongest effect on each route."""

from __future__ import annotations

import socket

from ringtasks.common import rehearsal
from ringtasks.ssh.rehearsal import summary, watch
from ringtasks.ssh.stream import Stream
from tests.support.waiting import eventually


def test_cut_is_told_also_if_a_later_connection_ends_before_its_cut() -> None:
    with rehearsal.rehearsing("direct=cut:300ms"):
        first, second = socket.socketpair()
        with first, second:
            watch("a", "direct", Stream(first))
            eventually(lambda: "failed on purpose" in summary())
        later, other = socket.socketpair()
        with later, other:
            watch("a", "direct", Stream(later))

            assert summary() == "failed on purpose: a direct (cut:0.3s)"
