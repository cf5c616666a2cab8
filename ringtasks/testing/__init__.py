"""For the tests of what is built on ringtasks: hosts that record and answer, without a network.

::

    with ringtasks.testing.fake_fleet("gpu1", "gpu2") as fleet:
        fleet["gpu1"].on("nvidia-smi*", stdout="H100\\n")
        assert get_ssh_client("gpu1").run("nvidia-smi -L").stdout == "H100\\n"
        assert fleet["gpu1"].commands == ["nvidia-smi -L"]

All of the client is real, down to the scripts that it sends; only the link is not.
"""

from __future__ import annotations

from .fleet import FakeFleet, fake_fleet
from .host import FakeHost
from .rules import Answer, Call

__all__ = ["Answer", "Call", "FakeFleet", "FakeHost", "fake_fleet"]
