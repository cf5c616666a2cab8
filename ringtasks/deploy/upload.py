"""Send the files of a release to a host; those that the last release had are not sent again."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.cancellation import Cancellation
from ringtasks.errors import UsageError
from ringtasks.exit_status import USAGE
from ringtasks.remote.paths import joined
from ringtasks.transfer.host_transfer import HostCopy, HostTransferError
from ringtasks.transfer.options import Options
from ringtasks.transfer.tree_copy import put_tree

from . import layout
from .settings import DeploySettings
from .source import ReleaseSource
from .steps import AppFolder

__all__ = ["Sent", "changes_of", "upload"]


class Sent(NamedTuple):
    """Result of an upload; ``error`` None: all files arrived."""

    error: str | None
    returncode: int
    sent_bytes: int


def upload(
    client: SSHClient,
    place: AppFolder,
    settings: DeploySettings,
    source: ReleaseSource,
    stop: Cancellation,
) -> Sent:
    """Mirror the files to the host's ``source`` folder; resume after lost connections."""
    host_copy = HostCopy(client, _options(settings), stop, None)
    try:
        _put(host_copy, place, source)
    except HostTransferError as error:
        return Sent(str(error), error.returncode, host_copy.ended().sent_bytes)
    except UsageError as error:  # git failed, for example
        return Sent(str(error), USAGE, 0)
    return Sent(None, 0, host_copy.ended().sent_bytes)


def changes_of(
    client: SSHClient, place: AppFolder, settings: DeploySettings, source: ReleaseSource
) -> tuple[tuple[str, str], ...]:
    """Return the files that `upload` would change, ``(KIND, PATH)``; send none of them.

    :raises UsageError: the files cannot be compared.
    """
    options = replace(_options(settings), dry_run=True)
    host_copy = HostCopy(client, options, Cancellation(), None)
    try:
        _put(host_copy, place, source)
    except HostTransferError as error:
        raise UsageError(f"{client.config.id}: {error}") from error
    found = host_copy.ended()
    return (*(("sent", name) for name in found.names), *(("deleted", n) for n in found.deleted))


def _put(host_copy: HostCopy, place: AppFolder, source: ReleaseSource) -> None:
    target = joined(place.root, "source")
    put_tree(host_copy, source.folder(), target, None, follow_outside=False, verify=False)


def _options(settings: DeploySettings) -> Options:
    return Options(
        exclude=(*settings.exclude, f"/{layout.MARK}"),
        delete=True,
        # `took_files` gives what arrives its time.
        checksum=True,
        keep_times=False,
        timeout=settings.upload_timeout,
    )
