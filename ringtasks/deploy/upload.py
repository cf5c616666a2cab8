"""Send the files of a release to a host; those that the last release had are not sent again."""

from __future__ import annotations

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
from .source import Source
from .steps import AppFolder

__all__ = ["Sent", "upload"]


class Sent(NamedTuple):
    """Result of an upload; ``error`` None: all files arrived."""

    error: str | None
    returncode: int
    sent_bytes: int


def upload(
    client: SSHClient,
    place: AppFolder,
    settings: DeploySettings,
    source: Source,
    stop: Cancellation,
) -> Sent:
    """Mirror the files to the host's ``source`` folder; resume after lost connections."""
    options = Options(
        exclude=(*settings.exclude, f"/{layout.MARK}"),
        delete=True,
        # `took_files` gives what arrives its time.
        checksum=True,
        keep_times=False,
        timeout=settings.upload_timeout,
    )
    host_copy = HostCopy(client, options, stop, None)
    target = joined(place.root, "source")
    try:
        put_tree(host_copy, source.folder(), target, None, follow_outside=False, verify=False)
    except HostTransferError as error:
        return Sent(str(error), error.returncode, host_copy.ended().sent_bytes)
    except UsageError as error:  # git failed, for example
        return Sent(str(error), USAGE, 0)
    return Sent(None, 0, host_copy.ended().sent_bytes)
