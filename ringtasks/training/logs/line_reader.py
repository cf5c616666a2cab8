"""Read lines of a log one by one.

Each layout has a reader, which recognizes its own lines; a line that no reader recognizes goes to
the parser of any text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .bar_lines import find_bar, format_of
from .bars import BarReader
from .detection import NO_DETECTION, Detection, detection_after, kind_of, of_task, row_of
from .keras import KerasReader, is_of_keras
from .key_value_tables import KeyValueReader, begins_table
from .line_parser import MAX_TEXT_CHARS, parse_line
from .multiline import MultilineReader, SettingsDump, opens_multiline
from .parsed import Move, Parsed
from .rank_prefixes import RankPrefixes
from .records import Record, record_of
from .rich_bars import RichBarLines, read_rich_bar
from .sections import NO_SECTION, DataSection, heading_of, in_section, labelled, section_after
from .tables import ColumnReader, Table, may_be_row
from .template_cache import TemplateCache
from .trials import in_trial, trial_after, trial_of

__all__ = ["LineReader", "Mode"]

#: A warning quotes a line of source; LightGBM prints its best iteration again.
_NEXT_IS_NO_METRIC = re.compile(r"\w+\.py:\d+: \w*Warning\b|[Bb]est iteration is:$", re.ASCII)
_RESUMES = re.compile(
    r"\W*(?:\S+ ){0,4}(?:(?:resum|restart|continu)(?:ing|ed)|resume training)\b"
    r".{0,40}\bfrom\b.{0,80}(?:checkpoint|ckpt|step|epoch|iter)",
    re.ASCII | re.IGNORECASE,
)
_OF_LIGHTNING = re.compile(
    r"\A(?:GPU available: |Sanity Checking|`Trainer\.fit`)|DataLoader \d+:|v_num=", re.ASCII
)


class _Line(NamedTuple):
    """The content of a line that depends on no other line.

    ``is_common``: a layout that is open may have the line, but none begins with it; ``heading``:
    the part of the data that it names for the lines below; ``detection``: see ``detection``.
    """

    is_common: bool
    skips_next: bool
    is_of_lightning: bool
    resumes: bool
    parsed: Parsed
    heading: str = ""
    detection: Detection | None = None


def _look_at(text: str) -> _Line:
    if len(text) > MAX_TEXT_CHARS:
        return _Line(True, False, False, False, parse_line(text))
    is_common = may_be_row(text) and not begins_table(text) and not is_of_keras(text)
    parsed = parse_line(text)
    trial = trial_of(text) if parsed.values else ""
    begin = f"{trial}/" if trial else ""
    parsed = parsed.named(begin + _decoded(value.name) for value in parsed.values)
    may_skip = ".py:" in text or " iteration is:" in text
    skips_next = may_skip and _NEXT_IS_NO_METRIC.search(text) is not None
    resumes = _RESUMES.match(text) is not None
    heading = heading_of(text)
    return _Line(
        is_common, skips_next, _is_of_lightning(text), resumes, parsed, heading, kind_of(text)
    )


def _decoded(name: str) -> str:
    return name.encode("latin-1").decode("utf-8", "replace")


def _moved(line: _Line, move: Move) -> _Line:
    return line._replace(parsed=line.parsed.moved(move))


_line_of = TemplateCache(_look_at, _moved)


class Mode(NamedTuple):
    """The part of the reader's state on which the meaning of a line's template depends."""

    table: Table
    validation: str
    is_in_dump: bool
    skips_next: bool
    key_values: tuple[str, str]
    trial: str
    section: DataSection
    ranks: int
    detection: Detection


class LineReader:
    """Reads the lines of one stream in order."""

    def __init__(self) -> None:
        self.bars = BarReader()
        self.keras = KerasReader()
        self.key_values = KeyValueReader()
        self._columns = ColumnReader()
        self._multiline = MultilineReader()
        self._dump = SettingsDump()
        self._skips_next = False
        self._ranks = RankPrefixes()
        self._rich_bars = RichBarLines()
        #: The fold or trial to which the lines belong.
        self.trial = ""
        self.section = NO_SECTION
        self._detection = NO_DETECTION

    @property
    def mode(self) -> Mode | None:
        """None: a dict or a table is incomplete, so its lines are the state, too."""
        layout = self.key_values.layout
        is_holding = self._ranks.is_holding or self._rich_bars.is_open
        if self._multiline.is_open or layout is None or is_holding:
            return None
        return Mode(
            self._columns.table,
            self._columns.validation,
            self._dump.is_open,
            self._skips_next,
            layout,
            self.trial,
            self.section,
            self._ranks.kind,
            self._detection,
        )

    def go_to(self, mode: Mode) -> None:
        """Take over the mode after lines that were recognized by their templates."""
        self._columns.table, self._columns.validation = mode.table, mode.validation
        self._dump.is_open, self._skips_next = mode.is_in_dump, mode.skips_next
        self.key_values.go_to(mode.key_values)
        self.trial, self.section = mode.trial, mode.section
        self._ranks.kind = mode.ranks
        self._detection = mode.detection

    def read(self, line: bytes) -> list[Record]:
        """Return what the next line of the log tells."""
        text = line.decode("latin-1")
        if not self._ranks.concerns(text):
            return self._read_whole(text)
        return [
            record if rank is None or record.rank is not None else record._replace(rank=rank)
            for rank, own in self._ranks.read(text)
            for record in self._read_whole(own)
        ]

    def _read_whole(self, text: str) -> list[Record]:
        if not self._rich_bars.concerns(text):
            return self._read_in_trial(text)
        return [record for own in self._rich_bars.read(text) for record in self._read_in_trial(own)]

    def _read_in_trial(self, text: str) -> list[Record]:
        trial = trial_after(text)
        held = self.end() if trial is not None and trial != self.trial else []
        own = self.trial if trial != "" else ""
        records = [*held, *(in_trial(each, own) for each in self._read(text))]
        self.trial = self.trial if trial is None else trial
        return records

    def _read(self, text: str) -> list[Record]:
        skips, self._skips_next = self._skips_next, False
        if skips and (text[:1].isspace() or text.startswith("[")):
            return []
        if self._multiline.is_open or opens_multiline(text):
            block = self._multiline.read(text)
            text = text if block is None else block
        if self._dump.holds(text):
            return []
        if not _may_hold_bar(text):
            return self.read_text(text)
        record = self._columns.read(text) if self._columns.table.columns else None
        if record is not None:  # ultralytics draws a bar behind the row of a table
            return [record]
        template = find_bar(text)
        if not template:
            return self.read_text(text)
        if self.section.split and template.head.endswith("||:"):  # AllenNLP: below "Validating"
            template = template._replace(head=f"{self.section.split} {template.head}")
        if _is_of_lightning(text):
            self.bars.note_lightning()
        records = self.bars.read(text.encode("latin-1"), format_of(template))
        return records + self.read_text(text[template.end :])

    def read_text(self, text: str) -> list[Record]:
        """Return what a line without a bar tells, or the text behind a bar."""
        if not text or text.isspace():
            return []
        bar = read_rich_bar(text)
        if bar is not None:
            return [bar]
        line = _line_of(text)
        if line.is_of_lightning:
            self.bars.note_lightning()
        if line.detection is not None:
            self._detection = detection_after(self._detection, line.detection)
            return []
        row = row_of(self._detection, text)
        if row is not None:
            return [row]
        if line.is_common:
            record = self._columns.row(text)
            if record is None and self.key_values.is_open:
                record = self.key_values.read(text)
        else:
            records = self.keras.read(text)
            if records is not None:
                return records
            record = self._columns.read(text) or self.key_values.read(text)
        if record is not None:
            record = self._in_section(record)
        start = [Record({}, kind="attempt")] if line.resumes else []
        if record is None:
            self._skips_next = line.skips_next
            split, self.section = section_after(self.section, text, line.heading, line.parsed)
            parsed = of_task(in_section(line.parsed, split), self._detection.task)
            record = record_of(parsed, text)
        return [*start, record]

    def _in_section(self, row: Record) -> Record:
        """Return the row of a table; below a heading, there is one table."""
        section = self.section
        if not section.split or not (row.values or section.left == 0):
            return row
        self.section = section._replace(left=0) if row.values else NO_SECTION
        names = labelled([name for name, _ in row.values], section.split)
        values = [(name, value) for name, (_, value) in zip(names, row.values, strict=True)]
        return row._replace(values=values)

    def end(self) -> list[Record]:
        """Return the records that were held back."""
        held = [record for text in self._ranks.release() for record in self._read_whole(text)]
        held += [record for text in self._rich_bars.release() for record in self._read(text)]
        held += [*self.bars.end(), *self.keras.end(), *self.key_values.end()]
        return [in_trial(each, self.trial) for each in held]


def _may_hold_bar(text: str) -> bool:
    """Return whether a bar may begin a line: only then the patterns of bars are tried."""
    if len(text) > MAX_TEXT_CHARS:
        return False
    return "it/s" in text or "%|" in text or "s/it" in text or "| 0/? [" in text


def _is_of_lightning(text: str) -> bool:
    return _OF_LIGHTNING.search(text) is not None
