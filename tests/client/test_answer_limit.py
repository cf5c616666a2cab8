"""The answer to one of ringtasks' own scripts has a limit, whatever the host sends."""

from __future__ import annotations

from ringtasks import SSHClient
from ringtasks.client.dialogue import Ask
from tests.support.fixtures import use_control_master

over_master = use_control_master  # each test runs over both kinds of link


def test_endless_answer_is_cut_off_and_reported(client: SSHClient) -> None:
    answer = client.ask(Ask("cat /dev/zero", timeout=30))

    assert not answer.success
    assert "box: outcome unknown: its answer is longer than 16777216 bytes" in str(answer.error)
    assert len(answer.stdout_bytes) <= 16777216
