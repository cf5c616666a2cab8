"""What became of a transfer, host by host; and how far one is, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

__all__ = ["HostTransfer", "OnProgress", "Progress", "TransferResult"]


class Progress(NamedTuple):
    """How far one host is.

    ``total_bytes`` None: not known yet. ``rate`` is in bytes a second. ``seconds_left`` None: not
    known.
    """

    host: str
    done_bytes: int
    total_bytes: int | None = None
    rate: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        if self.total_bytes is None or not self.rate:
            return None
        return max(0, self.total_bytes - self.done_bytes) / self.rate


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class HostTransfer:
    """What became of one host's part; true when all of it succeeded.

    ``returncode`` is 0; 1 when something could not be copied, 255 when the host could not be
    reached, 124 when the time limit passed, 130 when it was interrupted: then ``error`` says why.
    ``files`` were copied, ``bytes`` is their size, ``checked`` of them were found equal by
    SHA-256 at the far end.  ``sent_bytes`` and ``received_bytes`` passed over the line.
    ``resumed`` is how often the link was lost and the transfer went on.  ``names`` are what was
    copied and ``deleted`` what was removed; of a dry run, what would be.
    """

    host: str
    returncode: int
    error: str | None = None
    files: int = 0
    bytes: int = 0
    checked: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    resumed: int = 0
    elapsed_ms: float = 0.0
    transport_used: str | None = None
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.success

    @property
    def success(self) -> bool:
        return self.returncode == 0

    def to_dict(self) -> dict[str, Any]:
        """The fields that JSON can hold."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"host_id": values.pop("host"), "success": self.success, **values}


@dataclass(frozen=True)
class TransferResult:
    """Every host that was asked for, in that order; true when all succeeded."""

    results: tuple[HostTransfer, ...]

    def __bool__(self) -> bool:
        return all(self.results)

    def __iter__(self) -> Iterator[HostTransfer]:
        return iter(self.results)

    @property
    def failed(self) -> list[HostTransfer]:
        return [result for result in self.results if not result]
