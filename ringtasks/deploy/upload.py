"""Send the files of a release to a host; those that the last release had are not sent again."""

from __future__ import annotations

from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.cancellation import Cancellation
from ringtasks.errors import UsageError
from ringtasks.remote.paths import joined
from ringtasks.transfer.host_transfer import HostCopy, HostTransferError
from ringtasks.transfer.options import Options
from ringtasks.transfer.tree_copy import RemoteTree, put_tree

from . import layout
from .settings import DeploySettings
from .source import ReleaseSource
from .steps import AppFolder

__all__ = ["changes_of", "upload", "upload_to"]


def upload_to(
    client: SSHClient, settings: DeploySettings, stop: Cancellation, *, dry_run: bool = False
) -> HostCopy:
    """Return an upload to the host that has not begun."""
    options = Options(
        exclude=(*settings.exclude, f"/{layout.MARK}"),
        delete=True,
        # ``took_files`` gives what arrives its time.
        checksum=True,
        keep_times=False,
        timeout=settings.upload_timeout,
        dry_run=dry_run,
    )
    return HostCopy(client, options, stop, None)


def upload(host_copy: HostCopy, place: AppFolder, source: ReleaseSource) -> None:
    """Mirror the files to the host's ``source`` folder; resume after lost connections.

    :raises HostTransferError: not all files arrived.
    :raises UsageError: git or tar fails.
    """
    target = RemoteTree(joined(place.root, "source"), None, follow_outside=False, verify=False)
    put_tree(host_copy, source.folder(), target)


def changes_of(
    client: SSHClient, place: AppFolder, settings: DeploySettings, source: ReleaseSource
) -> tuple[tuple[str, str], ...]:
    """Return the files that `upload` would change, ``(KIND, PATH)``; send none of them.

    :raises UsageError: the files cannot be compared.
    """
    host_copy = upload_to(client, settings, Cancellation(), dry_run=True)
    try:
        upload(host_copy, place, source)
    except HostTransferError as error:
        raise UsageError(f"{client.config.id}: {error}") from error
    found = host_copy.ended()
    changed = [name for name in found.made if not name.endswith("/")]
    kinds = {"sent": found.names, "changed": changed, "deleted": found.deleted}
    return tuple((kind, name) for kind, names in kinds.items() for name in names)
