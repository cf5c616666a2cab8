"""Checks of the arguments that callers give to a client.

:raises TypeError: a value of another type.
:raises ValueError: a value out of range.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ringtasks.common.local_user import expanded_home

__all__ = ["as_text", "check_at_least", "check_whole", "ends", "limit_of"]


def as_text(env: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return the environment with numbers as text; `Script` refuses values of other types."""
    if not isinstance(env, Mapping):
        return {} if env is None else env
    numbers = {name: str(value) for name, value in env.items() if isinstance(value, int | float)}
    return {**env, **numbers} if numbers else env


def ends(
    local: str | Path | None,
    remote: str | None,
    local_path: str | Path | None,
    remote_path: str | None,
) -> tuple[str | Path, str]:
    """Return the local and the remote path of a copy, each given by one of its two names.

    ``~`` is expanded in the local one.

    :raises TypeError: a path is missing, or given by both names.
    """
    for name, one, other in (("local", local, local_path), ("remote", remote, remote_path)):
        if (one is None) == (other is None):
            problem = "is missing" if one is None else f"is given twice, also as {name}_path"
            raise TypeError(f"{name}: {problem}")
    near = local if local is not None else local_path
    far = remote if remote is not None else remote_path
    assert near is not None and far is not None  # noqa: S101, PT018  # checked above
    return (expanded_home(near) if str(near).startswith("~") else near), far


def limit_of(timeout: float) -> float | None:
    """Return the time limit in seconds; None if ``timeout`` is 0: no limit.

    :raises ValueError: ``timeout`` is negative or NaN.
    :raises TypeError: ``timeout`` is not a number.
    """
    check_at_least("timeout", timeout, 0)
    return timeout or None


def check_whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected a whole number, got {type(value).__name__}")
    check_at_least(name, value, least)


def check_at_least(name: str, value: float, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not value >= least:  # also refuses NaN
        raise ValueError(f"{name}: expected at least {least:g}, got {value!r}")
