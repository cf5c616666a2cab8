"""An SSH server (AsyncSSH) whose log-in is told what to want: nothing, an approval, a code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import asyncssh

__all__ = ["LogInServer"]


class LogInServer:
    """Listens on a loopback port; commands run here, in ``/bin/sh``.

    :param wants: ``none``: it lets anyone in; ``key``: any key; ``code``: any key, then a code by
        keyboard-interactive; ``password``: a password.
    :param banner: sent ``banner_delay`` seconds after the client has asked to log in.
    :param refuses: ``exec``, ``shell`` or ``pty``: a channel request that it refuses; ``piped``:
        what has no terminal.
    :param hangs_up: the text with which it ends each connection that asks to log in.
    :param hangs_up_code: the code beside that text (RFC 4253 section 11.1).
    :param drops: it ends the connection once the log-in has succeeded.
    :param delay: seconds until the log-in is decided, after the banner.
    :param compression: the only method of compression that it offers.
    """

    code = "246810"
    user = "someone"

    def __init__(
        self,
        wants: str = "none",
        *,
        banner: str = "",
        banner_delay: float = 0.0,
        delay: float = 0.0,
        refuses: str = "",
        hangs_up: str = "",
        hangs_up_code: int = asyncssh.DISC_BY_APPLICATION,
        drops: bool = False,
        compression: str = "none",
    ) -> None:
        self.drops, self.compression = drops, compression
        self.hangs_up, self.hangs_up_code = hangs_up, hangs_up_code
        self.refuses = refuses
        self.wants, self.banner = wants, banner
        self.banner_delay, self.delay = banner_delay, delay
        self.log_ins = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def __enter__(self) -> LogInServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        listener = self._loop.run_until_complete(
            asyncssh.create_server(
                lambda: _Server(self),
                "127.0.0.1",
                0,
                server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
                encoding=None,
                compression_algs=[self.compression],
            )
        )
        self.address, self.port = "127.0.0.1", listener.get_port()
        self._ready.set()
        self._loop.run_forever()
        listener.close()
        waiting = asyncio.all_tasks(self._loop)
        for task in waiting:
            task.cancel()  # or asyncio reports them when they are freed, in the log of another test
        self._loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))


class _Server(asyncssh.SSHServer):  # type: ignore[misc]  # AsyncSSH's types are not read here
    def __init__(self, owner: LogInServer) -> None:
        self._owner = owner

    def connection_made(self, connection: Any) -> None:
        self._connection = connection

    def session_requested(self) -> Any:
        return _Process(self._owner.refuses)

    async def begin_auth(self, _user: str) -> bool:
        if self._owner.hangs_up:
            self._connection.disconnect(self._owner.hangs_up_code, self._owner.hangs_up)
        await asyncio.sleep(self._owner.banner_delay)
        if self._owner.banner:
            self._connection.send_auth_banner(self._owner.banner)
        await asyncio.sleep(self._owner.delay)
        return self._owner.wants != "none"

    def auth_completed(self) -> None:
        self._owner.log_ins += 1
        if self._owner.drops:
            asyncio.get_running_loop().call_soon(self._connection.abort)

    def public_key_auth_supported(self) -> bool:
        return self._owner.wants == "key"

    def validate_public_key(self, _user: str, _key: object) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return self._owner.wants == "password"

    def validate_password(self, _user: str, password: str) -> bool:
        return password == self._owner.code

    def kbdint_auth_supported(self) -> bool:
        return self._owner.wants == "code"

    def get_kbdint_challenge(self, *_: object) -> Any:
        return "", "Second factor", "en", [("Verification code:", False)]

    def validate_kbdint_response(self, _user: str, responses: Sequence[str]) -> bool:
        return list(responses) == [self._owner.code]


class _Process(asyncssh.SSHServerProcess):  # type: ignore[misc]  # as above
    def __init__(self, refuses: str) -> None:
        super().__init__(_run_command, None, 3, allow_scp=False)
        self._refuses = refuses
        self._has_terminal = False

    def pty_requested(self, *_: object) -> bool:
        self._has_terminal = self._refuses != "pty"
        return self._has_terminal

    def exec_requested(self, command: str) -> bool:
        return self._takes("exec") and bool(super().exec_requested(command))

    def shell_requested(self) -> bool:
        return self._takes("shell") and bool(super().shell_requested())

    def _takes(self, request: str) -> bool:
        return self._refuses != request and (self._refuses != "piped" or self._has_terminal)


async def _run_command(process: Any) -> None:
    """Run the command; without one, a shell that says "ready"."""
    command = process.command or b"echo ready; exec /bin/sh"
    pipe = asyncio.subprocess.PIPE
    argv = ["/bin/sh", "-c", command]
    if process.get_terminal_type() is not None and process.command:
        argv = ["script", "-qec", command, "/dev/null"]
    child = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)
    typing = asyncio.ensure_future(_pass_on(process.stdin, child.stdin))
    await asyncio.gather(
        _pass_on(child.stdout, process.stdout), _pass_on(child.stderr, process.stderr)
    )
    process.exit(await child.wait())
    typing.cancel()


async def _pass_on(source: Any, sink: Any) -> None:
    while chunk := await source.read(65536):
        sink.write(chunk)
    if isinstance(sink, asyncio.StreamWriter):  # AsyncSSH closes a channel after its EOF
        sink.close()
