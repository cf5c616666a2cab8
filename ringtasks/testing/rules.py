"""Rules for a fake host's answers.  Pure: rules and a call in, an answer out."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["Answer", "Answering", "Call", "Matcher", "Rule", "rule_for"]


class Call(NamedTuple):
    """One command as it reached the host."""

    command: str
    cwd: str | None = None
    """None: the remote home."""
    env: Mapping[str, str] = MappingProxyType({})
    stdin: bytes = b""
    venv: str | None = None
    """The file or command that activates the virtual environment."""
    is_background: bool = False


class Answer(NamedTuple):
    """The output and the end of a command; text is sent as UTF-8."""

    stdout: str | bytes = b""
    stderr: str | bytes = b""
    returncode: int = 0
    """0 to 255; 128 + n for a command that signal n has killed."""
    delay: float = 0.0
    """Seconds from the command's start to its output and end."""
    is_hanging: bool = False
    """True if the command prints and does not end until it is stopped."""
    is_stoppable: bool = True
    """False if the command continues when it is told to end, and when it is killed."""

    def checked(self) -> Answer:
        """Return this answer.

        :raises TypeError: an output is neither text nor bytes.
        :raises ValueError: ``returncode`` or ``delay`` is out of range.
        """
        for name in ("stdout", "stderr"):
            if not isinstance(getattr(self, name), (str, bytes)):
                kind = type(getattr(self, name)).__name__
                raise TypeError(f"{name}: expected text or bytes, got {kind}")
        if not isinstance(self.returncode, int) or not 0 <= self.returncode <= 255:
            raise ValueError(f"returncode: expected 0 to 255, got {self.returncode!r}")
        if not self.delay >= 0:
            raise ValueError(f"delay: expected at least 0 seconds, got {self.delay!r}")
        return self


#: A glob for the whole command, a pattern to be found in it, or a function that judges the call.
Matcher = str | re.Pattern[str] | Callable[[Call], bool]


class Rule:
    """The calls to answer, the answer, and the number of answers (``times``; None: no limit)."""

    def __init__(
        self, matcher: Matcher, answer: Callable[[Call], Answer], times: int | None = None
    ) -> None:
        if not isinstance(matcher, (str, re.Pattern)) and not callable(matcher):
            kind = type(matcher).__name__
            raise TypeError(f"matcher: expected a glob, a pattern or a function, got {kind}")
        if times is not None and times < 1:
            raise ValueError(f"times: expected at least 1, got {times!r}")
        self.answer = answer
        self._matcher, self._left = matcher, times

    def takes(self, call: Call) -> bool:
        """Return True if this rule answers ``call``; that uses up one of its answers."""
        if self._left == 0 or not self._matches(call):
            return False
        if self._left is not None:
            self._left -= 1
        return True

    def _matches(self, call: Call) -> bool:
        if isinstance(self._matcher, str):
            # Compared as text first, because "[ -f x ]" is also a glob.
            is_same = call.command == self._matcher
            return is_same or fnmatch.fnmatchcase(call.command, self._matcher)
        if isinstance(self._matcher, re.Pattern):
            return self._matcher.search(call.command) is not None
        return self._matcher(call)


class Answering:
    """A fake host or fleet that answers commands by rules; a later rule comes before an earlier."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []  # a list's methods are atomic

    def on(
        self,
        matcher: Matcher,
        *,
        stdout: str | bytes = b"",
        stderr: str | bytes = b"",
        returncode: int = 0,
        delay: float = 0.0,
        times: int | None = None,
    ) -> None:
        """Answer the commands that match.

        :param matcher: a glob for the whole command, a compiled pattern to be found in it, or a
            function that judges the `Call`.
        :param returncode: 128 + n for a command that signal n has killed.
        :param delay: seconds from the start of the command to its output and end.
        :param times: answer this many times, and then as if there were no rule.
        """
        self._answer(matcher, Answer(stdout, stderr, returncode, delay), times)

    def on_call(
        self, matcher: Matcher, answer: Callable[[Call], Answer], *, times: int | None = None
    ) -> None:
        """Answer the commands that match with the result of ``answer`` for the `Call`.

        It is called in the thread of the client's method, which raises its exceptions.
        """
        self._rules.append(Rule(matcher, answer, times))

    def hang(
        self,
        matcher: Matcher = "*",
        *,
        stdout: str | bytes = b"",
        is_stoppable: bool = True,
        times: int | None = None,
    ) -> None:
        """Let the commands that match print ``stdout`` and run until they are stopped.

        :param is_stoppable: if False, they continue when they are stopped, and the client says so.
        """
        self._answer(matcher, Answer(stdout, is_hanging=True, is_stoppable=is_stoppable), times)

    def _answer(self, matcher: Matcher, answer: Answer, times: int | None) -> None:
        checked = answer.checked()
        self._rules.append(Rule(matcher, lambda call: checked, times))


def rule_for(call: Call, *lists: list[Rule]) -> Rule | None:
    """Return the latest rule that takes ``call``, from the first list that has one; else None."""
    return next((r for rules in lists for r in reversed(rules) if r.takes(call)), None)
