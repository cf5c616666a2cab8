"""Tables on stdout, fitted to the width of a terminal."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from .foreign_text import shown

__all__ = ["shortened", "table"]

#: Columns whose cells are never cut or broken: they are copied, compared or searched for.
_WHOLE = frozenset(
    {"", "circuit", "from", "host", "job", "name", "owner", "pid"}
    | {"release", "revision", "route", "state", "to"}
)
#: Cells of the other columns, less if their words are shorter; and if these do not fit.
_LEAST_WIDTHS = (12, 8)
_GAP = 2  # cells between columns
_BOLD, _PLAIN = "\x1b[1m", "\x1b[m"  # ECMA-48: SGR
_CUT = "\N{HORIZONTAL ELLIPSIS}"


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    cut: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """Print a table on stdout; on a terminal, fitted to its width.

    Hosts, ids and states (`_WHOLE`) are never cut; other columns wrap.  If that is not enough, the
    lines are longer than the terminal.

    :param cut: columns that are cut instead of wrapped.
    :param optional: columns that a narrow terminal does not show, the first of them first.
    """
    cell_text = functools.cache(shown)  # of thousands of rows, most cells are alike
    cells = [columns, *([cell_text(str(cell)) for cell in row] for row in rows)]
    is_terminal = sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))
    # A pipe gets the whole lines.
    width = shutil.get_terminal_size().columns if is_terminal else None
    widths = _widths(cells, width, optional)
    is_cut = [name in cut for name in columns]
    header, *lines = ("\n".join(_lines(row, widths, is_cut)) for row in cells)
    print(f"{_BOLD}{header}{_PLAIN}" if is_terminal else header)
    for line in lines:
        print(line)


def _widths(
    cells: Sequence[Sequence[str]], limit: int | None, optional: Sequence[str]
) -> dict[int, int]:
    """Return the numbers of the columns to show, each with its width.

    :param cells: the rows, the names of the columns first.
    :param limit: the width of the terminal; None: there is none.
    """
    by_column = list(zip(*cells, strict=True))
    wanted = {n: max(map(_width, texts)) for n, texts in enumerate(by_column)}
    if limit is None or _total(wanted) <= limit:
        return wanted
    for narrow in _LEAST_WIDTHS:
        least = _least(by_column, wanted, narrow)
        dropped = [list(cells[0]).index(name) for name in optional]
        while _total(least) > limit and dropped:
            del least[dropped.pop(0)]
        if _total(least) <= limit:
            break
    found = {n: min(wanted[n], max(limit, least[n])) for n in least}
    while _total(found) > limit:
        widest = max(found, key=lambda n: found[n] - least[n])
        if found[widest] == least[widest]:
            break
        found[widest] -= 1
    return found


def _least(
    by_column: Sequence[Sequence[str]], wanted: Mapping[int, int], narrow: int
) -> dict[int, int]:
    """Return the least width of each column."""
    least = dict(wanted)
    for n, texts in enumerate(by_column):
        if texts[0] not in _WHOLE:
            words = (_width(word) for text in texts for word in text.split())
            least[n] = min(narrow, max(words, default=1))
    return least


def _total(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _lines(row: Sequence[str], widths: Mapping[int, int], is_cut: Sequence[bool]) -> Iterator[str]:
    """Yield the lines of one row."""
    if all(row[n].isascii() and len(row[n]) <= width for n, width in widths.items()):
        # The usual row, and there may be thousands.
        yield (" " * _GAP).join([row[n].ljust(widths[n]) for n in widths]).rstrip()
        return
    parts = [_parts(row[n], width, is_cut=is_cut[n]) for n, width in widths.items()]
    for k in range(max(map(len, parts))):
        texts = [part[k] if k < len(part) else "" for part in parts]
        padded = (
            text + " " * (width - _width(text))
            for text, width in zip(texts, widths.values(), strict=True)
        )
        yield (" " * _GAP).join(padded).rstrip()


def _parts(text: str, width: int, *, is_cut: bool) -> list[str]:
    """Return the lines of a cell."""
    if _width(text) <= width:
        return [text]
    if is_cut:
        return [shortened(text, width)]
    from rich.cells import chop_cells

    lines = [""]
    for word in text.split():
        if lines[-1] and _width(lines[-1]) + 1 + _width(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines += chop_cells(word, width)
    return lines[1:]


def shortened(text: str, width: int) -> str:
    """Return the text, cut to the width with a mark at the end if it is longer."""
    if _width(text) <= width:
        return text
    from rich.cells import set_cell_size

    return set_cell_size(text, width - 1).rstrip() + _CUT


def _width(text: str) -> int:
    """Return the number of cells of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
