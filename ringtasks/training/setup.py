"""Commands that prepare a host for a run, not repeated while their dependencies are the same.

They depend on their own text, the virtual environment, and the files that they name or that are
given.  A stamp, ``~/.ringtasks/setup/KEY``, records that they have succeeded; if they changed the
run's folder, for that folder only.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Sequence

from ringtasks.client.dialogue import Ask
from ringtasks.client.result import last_words
from ringtasks.client.ssh_client import SSHClient
from ringtasks.errors import RunNotStartedError
from ringtasks.remote.script import activation, path, quote

__all__ = ["set_up"]

#: The exit status if there was nothing to do.
_DONE_BEFORE = 76

_SCRIPT = """\
cd {cwd} || exit 1
rt_sum() {{
  if command -v sha256sum >/dev/null; then sha256sum
  elif command -v shasum >/dev/null; then shasum -a 256
  else cksum; fi | tr -dc 0-9a-f
}}
rt_inputs() {{
  for rt_input in {inputs}; do
    [ -e "$rt_input" ] || continue
    find "$rt_input" -type f | LC_ALL=C sort | while IFS= read -r rt_file; do
      printf '%s ' "$rt_file"; rt_sum <"$rt_file"
    done
  done
}}
rt_here() {{ ls -AlR . | rt_sum; }}
rt_stamp=$HOME/.ringtasks/setup/$( (printf '%s\\n' {text}; rt_inputs) | rt_sum)
mkdir -p "$HOME/.ringtasks/setup" || exit 1
if command -v flock >/dev/null; then exec 9>"$HOME/.ringtasks/setup/lock"; flock 9; fi
if read -r rt_place 2>/dev/null <"$rt_stamp"; then
  [ "$rt_place" != anywhere ] && [ "$rt_place" != "$PWD" ] || exit {done_before}
fi
rt_before=$(rt_here)
{venv}
sh -ec {commands} </dev/null 9>&- || exit 1
rt_place=anywhere
[ "$(rt_here)" = "$rt_before" ] || rt_place=$PWD
printf '%s\\n' "$rt_place" >"$rt_stamp"
"""


def set_up(
    client: SSHClient,
    commands: Sequence[str],
    inputs: Sequence[str],
    cwd: str,
    env: dict[str, str],
    on_output: Callable[[int, bytes], None],
) -> bool:
    """Run the commands in the run's folder, unless that was done; return whether they ran now.

    The virtual environment is activated if it exists: the commands may be the ones that make it.

    :raises RunNotStartedError: one of them failed, or the host was lost.
    """
    venv = client.config.venv_activate
    activate = activation(venv) if venv else ":"
    text = "\n".join(commands)
    script = _SCRIPT.format(
        cwd=path(cwd),
        inputs=" ".join(quote(word) for word in _inputs(commands, inputs)) or "''",
        text=quote(f"{venv}\n{text}"),
        venv=f"if ({activate}) >/dev/null 2>&1; then\n{activate}\nfi" if venv else "",
        commands=quote(text),
        done_before=_DONE_BEFORE,
    )
    result = client.ask(Ask(script, timeout=0, env=env, on_output=on_output))
    if result.success:
        return True
    if result.error is None and result.returncode == _DONE_BEFORE:
        return False
    why = result.error or f"exit status {result.returncode}: {last_words(result)}"
    raise RunNotStartedError(client.config.id, f"its setup failed: {why}")


def _inputs(commands: Sequence[str], inputs: Sequence[str]) -> list[str]:
    """Return the inputs, and the words of the commands that may be paths in the run's folder."""
    words = list(inputs)
    for command in commands:
        with contextlib.suppress(ValueError):
            words += [word for word in shlex.split(command) if not word.startswith(("-", "/", "~"))]
    kept = [word for word in words if "\n" not in word and ".." not in word.split("/")]
    return [f"./{word}" for word in dict.fromkeys(kept) if word.strip("./")]
