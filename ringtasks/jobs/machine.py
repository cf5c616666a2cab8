"""The machine that a job belongs to.  Pure.

Machines may share a home, a machine may have several names in the inventory, and containers share
their kernel's boot id.  A job is judged by the processes of its own machine only.  The rule is
cautious: if it is not certain that two machines are one, they are two.

Source: machine-id(5), pid_namespaces(7), flock(2), random(4) (``boot_id``).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ["ANOTHER_MACHINE", "Machine", "Origin"]

#: The label of a machine without a name of its own.
ANOTHER_MACHINE = "another machine"


class Origin(enum.Enum):
    """The relation of a job's machine to the one that shows its folder."""

    HERE = "its processes are seen here"
    EARLIER = "it belongs to an earlier boot of this machine"
    ELSEWHERE = "it belongs to another machine"


class Machine(NamedTuple):
    """Identity of a machine (``remote/machine.sh``); "": not known."""

    boot: str = ""
    process_ids: str = ""
    """The namespace of its process ids: each container has its own."""
    machine_id: str = ""
    hostname: str = ""
    name: str = ""
    """Its name in the inventory, when the job was started or when the host was asked."""

    @classmethod
    def parse(cls, boot: str, text: str, name: str = "") -> Machine:
        """Parse ``NAMESPACE MACHINE HOSTNAME``, with "-" for what is not known."""
        known = ["" if word == "-" else word for word in text.split()[:3]]
        process_ids, machine_id, hostname, *_ = [*known, "", "", ""]
        return cls(boot, process_ids, machine_id, hostname, name)

    def origin(self, here: Machine, lock: str) -> Origin:
        """Return the relation of this machine, of a job, to ``here``.

        :param lock: "held" by a process of the job; "free": none of the job runs on this kernel.
        """
        is_same_boot = self.boot == here.boot
        if is_same_boot and not _differ(self.process_ids, here.process_ids):
            return Origin.HERE
        if lock == "held" or (is_same_boot and lock != "free"):
            return Origin.ELSEWHERE
        pairs = (
            (self.machine_id, here.machine_id),
            (self.hostname, here.hostname),
            (self.name, here.name),
        )
        return Origin.ELSEWHERE if any(_differ(*pair) for pair in pairs) else Origin.EARLIER

    def label(self, here: Machine) -> str:
        """Return a name for this machine that is not a name of ``here``."""
        known = ("", here.name, here.hostname)
        names = [name for name in (self.name, self.hostname) if name not in known]
        return names[0] if names else ANOTHER_MACHINE


def _differ(one: str, other: str) -> bool:
    return "" not in (one, other) and one != other
