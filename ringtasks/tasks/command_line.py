"""Words that follow a task on the command line and that Invoke's parser takes for something else.

``--help`` after a task whose positional arguments are missing would be taken for one of them, as a
misspelled flag would be, and the words of an unquoted ``--cmd git push`` for tasks, as the host in
``why box-a``.  The parser has no hook for these, so the words are looked at when it asks the tasks
for their flags, before it parses them.
"""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from invoke import Program, Task
from invoke.exceptions import ParseError
from invoke.parser import Argument, ParserContext

from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.program_name import as_typed
from ringtasks.common.text import near_names, visible
from ringtasks.errors import RingtasksError

__all__ = ["check_first_word", "look_at", "task_names", "unknown_flag", "unknown_task"]

_HELP = ("--help", "-h")
_COMMAND = "cmd"

#: Flags of the program with which no task runs, or that are ignored after one.
_ONLY_ALONE = ("--list", "-l", "--version", "-V")

#: The flags of the tasks so far that each program's command line names, by the tasks' names.
_contexts: WeakKeyDictionary[Program, dict[str, ParserContext]] = WeakKeyDictionary()


class _CommandWord(NamedTuple):
    """A word after a task."""

    at: int
    text: str
    task_at: int
    context: ParserContext
    flag: Argument | None
    """The flag whose value it is."""
    is_unexpected: bool = False
    """No flag, no value, no task, and not one of the task's positional arguments."""


def check_first_word(program: Program) -> None:
    """Check that the command line begins with a task.

    :raises ParseError: it does not; Invoke's own error names no near one, and no flag for a host.
    """
    words: list[str] = program.core.unparsed
    tasks = task_names(program)
    if not words or words[0] in tasks:
        return
    named = next((word for word in words if word in tasks), None)
    if not words[0].startswith("-"):
        command = () if named else ("--cmd", " ".join(words[1:]) or "CMD")
        _refuse_host(words[0], words, named or "run", command)
        raise ParseError(unknown_task(words[0], tasks))
    meant = as_typed(f"{named or 'TASK'} {words[0].partition('=')[0]}")
    told = f"is not a flag of the program; the flags of a task follow it: '{meant}'"
    raise ParseError(f"{visible(words[0])} {told}")


def task_names(program: Program) -> set[str]:
    """Return the names of all tasks, with their aliases."""
    named = program.collection.task_names
    return {name for task, aliases in named.items() for name in (task, *aliases)}


def look_at(
    program: Program, names: Sequence[str], arguments: Iterable[Argument], kind: type[Task[Any]]
) -> None:
    """Let ``--help`` after a task mean its help; refuse unknown flags and an unquoted command.

    Called for each task that the command line names; the last call has all that is needed.

    :param names: the names of the task on the command line.
    :param kind: the class of the tasks for which this is called.
    :raises ParseError: a word after the value of ``--cmd`` is neither a flag nor a task, or another
        word begins as a flag and is none.
    """
    words: list[str] = program.core.unparsed
    tasks = task_names(program)
    contexts = _contexts.setdefault(program, {})
    contexts.update(dict.fromkeys(names, ParserContext(names[0], args=list(arguments))))
    ours = {word for word in words if word in tasks and isinstance(program.collection[word], kind)}
    if not ours <= contexts.keys():
        return
    command = ""
    given: set[tuple[int, str | None]] = set()
    of_program: list[int] = []
    for word in _words(words, tasks, contexts, program.initial_context):
        _refuse_second(word, given)
        if word.is_unexpected and not command:
            _refuse_extra_word(word, words, tasks, has_command=(word.task_at, _COMMAND) in given)
        if command:
            _check_end_of(command, word, words, tasks, program.initial_context)
        if word.flag is None and word.text in _HELP:
            program.args.help.value = words[word.task_at]
            del words[word.task_at :]  # the rest may be incomplete
            return
        if word.flag is None and word.text.startswith("-"):
            _refuse_flag(word, program.initial_context)
            if word.context.positional_args and not _is_flag(word.text, word.context):
                of_program.append(word.at)
        is_command = word.flag is not None and word.flag.name == _COMMAND
        command = word.text if is_command else ""
    _move_to_front(words, of_program, program.initial_context)
    if ours and program.core.remainder and ours == tasks & set(words):
        last = [word for word in words if word in ours][-1]
        _refuse_remainder(program.core.remainder, contexts[last])


def _refuse_second(word: _CommandWord, given: set[tuple[int, str | None]]) -> None:
    """Refuse a flag's second value, if it takes one only: Invoke would take it for a task.

    :param given: the flags with a value so far, each with the place of its task.
    :raises ParseError: it is a second value.
    """
    if word.flag is None or word.flag.kind is list:
        return
    flag = (word.task_at, word.flag.name)
    if flag in given:
        advice = "; join the hosts by commas" if word.flag.name == "host" else ""
        raise ParseError(f"--{word.flag.name} is given twice{advice}")
    given.add(flag)


def _move_to_front(words: list[str], places: Sequence[int], program: ParserContext) -> None:
    """Move flags of the program in front of the tasks: ``put --dry`` has no source ``--dry``."""
    moved = set(places)
    for at in places:
        if words[at] in program.flags and program.flags[words[at]].takes_value:
            moved.add(at + 1)
    front = [word for at, word in enumerate(words) if at in moved]
    words[:] = front + [word for at, word in enumerate(words) if at not in moved]


def _words(
    words: Sequence[str],
    tasks: set[str],
    contexts: Mapping[str, ParserContext],
    program: ParserContext,
) -> Iterator[_CommandWord]:
    """Yield each word after a task, as Invoke's parser will understand it."""
    context: ParserContext | None = None
    awaiting: Argument | None = None
    task_at = positionals = 0
    for at, text in enumerate(words):
        if text == "--" and awaiting is None:
            return
        if context is not None:
            is_plain = awaiting is None and not positionals and not text.startswith("-")
            is_unexpected = is_plain and text not in tasks
            yield _CommandWord(at, text, task_at, context, awaiting, is_unexpected)
        if awaiting is not None:
            awaiting = None
        elif text.startswith("-"):
            name, equals, value = text.partition("=")
            flag = context.flags[name] if context and name in context.flags else None
            if context and flag and flag.takes_value and equals:
                yield _CommandWord(at, value, task_at, context, flag)
            elif flag and flag.takes_value:
                awaiting = flag
            elif context and not flag and text in program.flags and program.flags[text].takes_value:
                awaiting = program.flags[text]
        elif positionals:
            positionals -= 1
        elif text in tasks:
            context, task_at = contexts.get(text), at
            positionals = len(context.positional_args) if context else 0


def _refuse_extra_word(
    word: _CommandWord,
    words: Sequence[str],
    tasks: set[str],
    *,
    has_command: bool,
) -> None:
    """Refuse a word that is no flag, no value and no task, with the likely flag or task.

    :raises ParseError: always.
    """
    flags = word.context.flags
    if "--host" in flags:
        _refuse_host(word.text, words, words[word.task_at])
    if f"--{_COMMAND}" in flags and not has_command:
        # A short flag of the program, as in "ls -l", is rather the command's.
        rest = _up_to_flag(words[word.at :], word.context)
        command = shlex.quote(" ".join(rest))
        others = [*words[word.task_at : word.at], *words[word.at + len(rest) :]]
        typed = as_typed(f"{' '.join(map(shlex.quote, others))} --{_COMMAND} {command}")
        meant = f"did you mean --{_COMMAND} {command}: {typed}"
        raise ParseError(f"{word.text!r} is not a task; {meant}")
    if "src" in word.context.args:
        several = "for several files, quote a pattern, such as '*.csv'"
        takes = f"{word.context.name} takes one SRC and one DST"
        raise ParseError(f"{visible(word.text)}: {takes}; {several}")
    raise ParseError(unknown_task(word.text, tasks))


def unknown_task(word: str, tasks: Iterable[str]) -> str:
    """Return the error for a word that is not a task, with near ones."""
    if word == "help":
        return f"help is not a task; see '{as_typed('--list')}' and '{as_typed('TASK --help')}'"
    near = tuple(name for name in sorted(tasks) if name.startswith(f"{word}."))
    near = near or near_names(word, sorted(tasks), similarity=0.6)
    list_ = f"'{as_typed('--list')}' lists the tasks"
    advice = f"did you mean {', '.join(near)}?" if near else list_
    return f"{visible(word)} is not a task; {advice}"


def unknown_flag(word: str, context: ParserContext) -> str:
    """Return the error for a word that is not a flag of a task, with near ones."""
    near = near_names(word, context.flags, similarity=0.6)
    list_ = f"'{as_typed(f'{context.name} --help')}' lists the flags"
    advice = f"did you mean {', '.join(near)}?" if near else list_
    if os.path.lexists(word):  # Path is not loaded
        advice = f"the file of that name is ./{visible(word)}"
    return f"{visible(word)} is not a flag of {context.name}; {advice}"


def _refuse_remainder(remainder: str, context: ParserContext) -> None:
    """Refuse the words after ``--``, which no task here has a use for.

    :raises ParseError: always.
    """
    advice = f"'{as_typed(f'{context.name} --help')}' lists the flags"
    if f"--{_COMMAND}" in context.flags:
        advice = f"did you mean --{_COMMAND} {shlex.quote(remainder)}?"
    elif "src" in context.args:
        advice = "a path that begins with - is written ./-"
    raise ParseError(f"the words after '--' are not used by {context.name}; {advice}")


def _up_to_flag(words: Sequence[str], *contexts: ParserContext) -> list[str]:
    """Return the words in front of the first flag of the task or the program."""
    return list(itertools.takewhile(lambda word: not _is_flag(word, *contexts), words))


def _refuse_host(text: str, words: Sequence[str], task: str, more: Sequence[str] = ()) -> None:
    """Refuse a word that selects hosts, with the flag for it.

    :param more: words to propose behind those of ``task``.
    :raises ParseError: it selects hosts.
    """
    meant = _selector_of(text, words)
    if meant is not None:
        typed = as_typed(shlex.join([task, "--host", meant, *more]))
        raise ParseError(f"{text!r} is not a task; did you mean --host {meant}: '{typed}'?")


def _selector_of(word: str, words: Sequence[str]) -> str | None:
    """Return the selector that a word means; None: it selects no hosts of the inventory.

    No source of the inventory is asked.

    :param words: the command line, which may name the inventory.
    """
    from ringtasks.inventory.loader import load_inventory
    from ringtasks.inventory.selection import select
    from ringtasks.output.candidates import inventory_of, project_folder

    if word == "all":
        return "@all"
    if "@" in word[1:]:
        return word  # user@host
    try:
        inventory = load_inventory(inventory_of(words), beside=project_folder(), may_fetch=False)
        select(word, inventory)
    except RingtasksError:
        return None
    return word


def _refuse_flag(word: _CommandWord, program: ParserContext) -> None:
    """Refuse a word such as ``--bogus`` or ``--list`` in the place of a positional argument.

    :raises ParseError: it is an unknown flag, or cannot stand there.
    """
    if word.text in _ONLY_ALONE and word.context.positional_args:
        raise ParseError(f"{word.text!r} cannot follow a task")
    if word.text == "-":
        raise ParseError("'-' is neither a task nor a path; standard input is /dev/stdin")
    name, equals, _ = word.text.partition("=")
    if equals and name in word.context.flags and not word.context.flags[name].takes_value:
        raise ParseError(f"{name} takes no value: {visible(word.text)}")
    has_value = word.text[:2] in word.context.flags  # -n5
    if not has_value and not _is_flag(word.text, word.context, program):
        raise ParseError(unknown_flag(name, word.context))


def _is_flag(word: str, *contexts: ParserContext) -> bool:
    """Return whether a word is a flag, with ``=value`` or several letters behind one ``-``, too."""
    known = [flags for context in contexts for flags in (context.flags, context.inverse_flags)]

    def is_known(name: str) -> bool:
        return any(name in flags for flags in known)

    if word.startswith("--"):
        return is_known(word.partition("=")[0])
    return len(word) > 1 and word[0] == "-" and all(is_known(f"-{letter}") for letter in word[1:])


def _check_end_of(
    command: str, word: _CommandWord, words: Sequence[str], tasks: set[str], program: ParserContext
) -> None:
    """Hint at quotes around a command if the word after it may belong to it.

    :param program: the flags of the program itself, which may follow a task.
    :raises ParseError: the word is no task, and a flag, if at all, that cannot follow one.
    """
    rest = [word.text, *_up_to_flag(words[word.at + 1 :], word.context, program)]
    told = (
        f"if it is a part of the command, quote it: --cmd {shlex.quote(' '.join([command, *rest]))}"
    )
    is_flag = _is_flag(word.text, word.context, program)
    if word.text in _ONLY_ALONE:
        raise ParseError(f"{word.text!r} cannot follow a task; {told}")
    if not is_flag and word.text not in tasks:
        raise ParseError(f"{word.text!r} is neither a task nor a flag; {told}")
    is_of_task = _is_flag(word.text, word.context)
    is_doubtful = not is_of_task or _lacks_its_value(word, words, tasks, program)
    is_short = not word.text.startswith("--") and not any(char.isspace() for char in command)
    if is_short and is_doubtful:
        owner = "task" if is_of_task else "program"
        taken_for = f"a flag of the {owner}" if is_flag else "a task"
        print(f"ringtasks: {word.text!r} is taken for {taken_for}; {told}", file=sys.stderr)


def _lacks_its_value(
    word: _CommandWord, words: Sequence[str], tasks: set[str], program: ParserContext
) -> bool:
    """Return True if a flag of the task is not followed by what it needs: ``-e`` by NAME=VALUE."""
    following = words[word.at + 1] if word.at + 1 < len(words) else None
    flags = word.context.flags
    if word.text not in flags or not flags[word.text].takes_value:
        return not (
            following is None or following in tasks or _is_flag(following, word.context, program)
        )
    if following is None or following.startswith("-"):
        return True
    is_value = "=" in following or following in os.environ  # of --env: NAME=VALUE, or NAME
    return flags[word.text].name == "env" and not is_value
