"""An rsync on the host that sends other names and links than there are.

It is a real one, told to speak a protocol without compression of its list of files; what it sends
is changed on the way, byte by byte: a text is replaced by one of the same length.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

__all__ = ["HostileRsync"]

_CHUNK_BYTES = 64 * 1024
#: The last one whose list of files is sent at once, and not folder by folder.
_PROTOCOL = 29
#: Seconds for the rest of a text to come.
_REST_TIME = 0.2


class HostileRsync:
    """Such a program, in a folder that is to be first on the host's ``PATH``.

    :param folder: it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._file = folder / "replaced.json"
        real = shutil.which("rsync")
        assert real, "rsync is missing: install it"
        program = folder / "rsync"
        program.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "{self._file}" "{real}" "$@"\n'
        )
        program.chmod(0o755)
        self.replace({})

    def replace(self, texts: Mapping[str, str]) -> None:
        """Whatever is sent from now on has these texts replaced, each by one of its length."""
        assert all(len(text) == len(other) for text, other in texts.items())
        self._file.write_text(json.dumps(dict(texts)))


def _main() -> int:
    texts = {
        text.encode("latin-1"): other.encode("latin-1")
        for text, other in json.loads(Path(sys.argv[1]).read_text()).items()
    }
    arguments = [sys.argv[2], sys.argv[3], f"--protocol={_PROTOCOL}", *sys.argv[4:]]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    threading.Thread(target=_pass_on, args=(0, process.stdin), daemon=True).start()
    held = b""
    while chunk := os.read(process.stdout.fileno(), _CHUNK_BYTES):
        held += chunk
        for text, other in texts.items():
            held = held.replace(text, other)
        # The beginning of a text may be at the end of what has come.  If nothing follows, the bytes
        # are others, as those of a random number, and rsync waits for an answer.
        is_begun = any(held.endswith(text[:size]) for text in texts for size in range(1, len(text)))
        if not is_begun or not select.select([process.stdout], [], [], _REST_TIME)[0]:
            sys.stdout.buffer.write(held)
            sys.stdout.buffer.flush()
            held = b""
    sys.stdout.buffer.write(held)
    sys.stdout.buffer.flush()
    return process.wait()


def _pass_on(source: int, sink: object) -> None:
    with sink as pipe:  # type: ignore[attr-defined]
        while chunk := os.read(source, _CHUNK_BYTES):
            pipe.write(chunk)
            pipe.flush()


if __name__ == "__main__":
    sys.exit(_main())
