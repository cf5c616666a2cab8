"""An sshd that asks PAM: a service of the test's own, which wants a code (pam_exec)."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.support.sshd import Sshd

__all__ = ["PamSshd"]


class PamSshd:
    """A server that wants a key and then PAM's question, which `code` answers.

    sshd names its PAM service after its program (auth-pam.c, sshpam_init), so it is started under
    another name; the service's file is removed with it.

    :param account: the lines of PAM that decide whether a user who has logged in may go on.
    """

    code = "314159"
    question = b"Password:"

    def __init__(
        self,
        folder: Path,
        authorized: Path,
        methods: str,
        account: Sequence[str] = ("required pam_permit.so",),
    ) -> None:
        name = f"rt-sshd-{os.getpid()}"
        check = folder / "check"
        check.write_text(f'#!/bin/sh\ncode=$(tr -d "\\0")\n[ "$code" = {self.code} ]\n')
        check.chmod(0o755)
        self._service = Path("/etc/pam.d") / name
        self._service.write_text(
            f"auth requisite pam_exec.so expose_authtok quiet {shlex.quote(str(check))}\n"
            + "".join(f"{kind} required pam_permit.so\n" for kind in ("auth", "session"))
            + "password required pam_unix.so\n"
            + "".join(f"account {line}\n" for line in account)
        )
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        assert program
        (folder / name).symlink_to(program)
        self.sshd = Sshd(
            authorized,
            program=folder / name,
            overrides=[
                "UsePAM yes",
                "KbdInteractiveAuthentication yes",
                f"AuthenticationMethods {methods}",
            ],
        )

    def __enter__(self) -> PamSshd:
        return self

    def __exit__(self, *_: object) -> None:
        self.sshd.stop()
        self._service.unlink()
