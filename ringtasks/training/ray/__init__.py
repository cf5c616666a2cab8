"""A Ray cluster over hosts: ``ray start`` as a job on each, and Ray's own job API for programs.

Nothing about a cluster is kept here.  On its hosts are a job each, whose command line tells the
role, the ports and the other hosts, and a folder ``~/.ringtasks/ray/ID`` with the cluster's token.
The folder goes when the cluster is taken down, so a folder that is there means that something may
be left.  Two clusters share neither a port nor a token, also on the same hosts.
"""

from __future__ import annotations

from .ending import Ended, end
from .standing import Member, Standing, look, nowhere
from .starting import up
from .submitting import follow, new_id, stop, submit
from .upload import plan_upload

__all__ = [
    "Ended",
    "Member",
    "Standing",
    "end",
    "follow",
    "look",
    "new_id",
    "nowhere",
    "plan_upload",
    "stop",
    "submit",
    "up",
]
