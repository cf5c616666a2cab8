"""A Ray cluster over hosts: ``ray start`` as a job on each, and Ray's own job API for programs.

This machine keeps no state of a cluster.  Each of its hosts has a job, whose command line holds the
role, the ports and the other hosts, and a folder ``~/.ringtasks/ray/ID`` with the cluster's token.
The folder is removed with the cluster, so an existing folder means that parts may be left.  Two
clusters share neither a port nor a token, also on the same hosts.
"""

from __future__ import annotations

from .cluster_state import ClusterState, Member, ask, look, nowhere
from .ending import Ended, end
from .starting import up
from .submitting import follow, new_id, stop, submit
from .upload import plan_upload

__all__ = [
    "ClusterState",
    "Ended",
    "Member",
    "ask",
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
