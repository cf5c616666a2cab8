"""The error of a disk without room for a file: the same text for each side and each way."""

from __future__ import annotations

import errno

from .text import size

__all__ = ["is_full", "no_space"]


def is_full(error: BaseException | None) -> bool:
    """Return True if a system call failed for want of disk space."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def no_space(needed_bytes: int | None, free_bytes: int | None) -> str:
    """Return the evidence and the advice; each number may be unknown."""
    if free_bytes is None:
        return "no space: look with 'df -h' there"
    free = f"{size(free_bytes)} are free"
    if needed_bytes is None:
        return f"no space: {free}: look with 'df -h' there"
    needed = f"{size(needed_bytes)} are needed, and {free}"
    if needed_bytes <= free_bytes:  # inodes, or a quota
        return f"no space: {needed}: look with 'df -hi' and 'quota' there"
    missing = f"{size(needed_bytes - free_bytes)} are missing"
    return f"no space: {needed}; {missing}: look with 'df -h' there"
