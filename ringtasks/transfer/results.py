"""The results of a transfer, host by host; and the progress of one, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, fields
from typing import Any

from ringtasks.common.light_dataclass import dataclass
from ringtasks.common.light_typing import NamedTuple

__all__ = ["HostTransfer", "OnProgress", "TransferProgress", "TransferResult"]


class TransferProgress(NamedTuple):
    """The progress of one host.

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


OnProgress = Callable[[TransferProgress], None]


@dataclass(frozen=True)
class HostTransfer:
    """The result of one host's part; true if all of it succeeded.

    ``returncode`` is 0; 1 if something could not be copied, 255 if the host could not be reached,
    124 if the time limit passed, 130 if it was interrupted: then ``error`` gives the reason.
    ``files`` were copied, ``bytes`` is their size, ``checked`` of them were found equal by SHA-256
    on the receiving side.  ``sent_bytes`` and ``received_bytes`` passed over the connection.
    ``resumed`` is the number of lost links after which the transfer continued.  ``names`` are the
    copied paths, ``deleted`` the removed ones, and ``made`` those that were made or changed in
    another way: folders, links, modes and times.  ``replaced`` are the symbolic links at the target
    in whose places folders of the source were made, with their texts; ``skipped`` are the pipes,
    devices, sockets, and links that lead out of the target, which were not copied.  Of a dry run
    (``is_dry_run``), all are those that would be.
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
    made: tuple[str, ...] = ()
    replaced: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    is_dry_run: bool = False

    def __bool__(self) -> bool:
        return self.success

    @property
    def success(self) -> bool:
        return self.returncode == 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that JSON can hold."""
        values = {own.name: getattr(self, own.name) for own in fields(self)}
        return {"host_id": values.pop("host"), "success": self.success, **values}


@dataclass(frozen=True)
class TransferResult:
    """The results of all requested hosts, in that order; true if all succeeded.

    ``ignored`` are the paths that were left out because git ignores them; folders end in ``/``.
    """

    results: tuple[HostTransfer, ...]
    ignored: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return all(self.results)

    def __iter__(self) -> Iterator[HostTransfer]:
        return iter(self.results)

    @property
    def failed(self) -> list[HostTransfer]:
        return [result for result in self.results if not result]
