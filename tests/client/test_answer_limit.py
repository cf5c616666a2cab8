"""The answer to one of ringtasks' own scripts has a limit, whatever the host sends."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ringtasks import SSHClient
from ringtasks.client.dialogue import Ask
from tests.support.fixtures import MakeSshd, use_control_master
from tests.support.sshd import Sshd

over_master = use_control_master  # each test runs over both kinds of link


@pytest.fixture
def server(request: pytest.FixtureRequest, make_sshd: MakeSshd, tmp_path: Path) -> Sshd:
    """A host whose ``sleep`` prints without end."""
    program = tmp_path / "bin" / "sleep"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec cat /dev/zero\n")
    program.chmod(0o755)
    return make_sshd(environ={"PATH": f"{program.parent}:{os.environ['PATH']}"})


def test_endless_answer_is_cut_off_and_reported(client: SSHClient) -> None:
    answer = client.ask(Ask("cat /dev/zero", timeout=30))

    assert not answer.success
    assert "box: outcome unknown: its answer is longer than 16777216 bytes" in str(answer.error)
    assert len(answer.stdout_bytes) <= 16777216


@pytest.mark.matrix(1)
def test_endless_answer_to_a_stop_is_cut_off(client: SSHClient) -> None:
    began = time.monotonic()

    answer = client.run("trap '' TERM; exec /bin/sleep 9", timeout=0.3)

    assert "could not confirm that the remote processes exited" in str(answer.error)
    assert time.monotonic() - began < 8
