"""Scalars in TensorBoard's event files.  Pure.

The packages that read these files bring NumPy, protobuf and a web server, so the few fields that
are needed are read here.  A file is a chain of TFRecords (tensorflow/core/lib/io/record_writer.h),
each with an Event message (tensorflow/core/util/event.proto, summary.proto and tensor.proto).  The
files come from hosts: a record whose checksum is wrong ends the reading, and none may be large.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .records import Position, Record

__all__ = ["event_records"]

#: A record of scalars has some hundred bytes; larger ones, of images or graphs, are skipped.
_MAX_BYTES = 1 << 16
_FLOAT, _DOUBLE = 1, 2  # tensor.proto: DataType
_VARINT, _EIGHT, _SIZED, _FOUR = 0, 1, 2, 5  # protobuf's wire types
_MAX_VARINT_BYTES = 10


class _DamagedRecordError(Exception):
    """The bytes are no message."""


def event_records(data: bytes) -> Iterator[Record]:
    """Yield a record for each step's scalars, up to the end or to the first damaged record."""
    for event in _tf_records(data):
        try:
            record = _record(event)
        except _DamagedRecordError:
            return
        if record is not None:
            yield record


def _record(event: bytes) -> Record | None:
    step, time, values = 0, None, []
    for number, value in _fields(event):
        if number == 1 and isinstance(value, bytes) and len(value) == 8:
            time = struct.unpack("<d", value)[0]
        elif number == 2 and isinstance(value, int):
            step = value
        elif number == 5 and isinstance(value, bytes):
            values += [_scalar(each) for n, each in _fields(value) if n == 1]
    scalars = [value for value in values if value is not None]
    if not scalars or step >= 1 << 63:  # a negative step
        return None
    return Record({"step": Position(float(step))}, scalars, time=time)


def _scalar(value: int | bytes) -> tuple[str, float] | None:
    """Return a tag and its number; None if it is of another kind."""
    if not isinstance(value, bytes):
        raise _DamagedRecordError
    tag, number = "", None
    for field, content in _fields(value):
        if field == 1 and isinstance(content, bytes):
            tag = content[:200].decode("utf-8", "replace")
        elif field == 2 and isinstance(content, bytes) and len(content) == 4:
            number = struct.unpack("<f", content)[0]
        elif field == 8 and isinstance(content, bytes):
            number = _tensor(content)
    return (tag, _as_printed(number)) if tag and number is not None else None


def _tensor(content: bytes) -> float | None:
    kind, data = 0, b""
    for field, value in _fields(content):
        if field == 1 and isinstance(value, int):
            kind = value
        elif field in (4, 5, 6) and isinstance(value, bytes):
            data += value
    form = {_FLOAT: "<f", _DOUBLE: "<d"}.get(kind)
    if form is None or len(data) != struct.calcsize(form):
        return None  # no scalar
    number: float = struct.unpack(form, data)[0]
    return number


def _as_printed(number: float) -> float:
    """Return 0.1 for the single-precision number that is nearest to it."""
    return float(f"{number:.8g}")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and the value of each field."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == _SIZED:
            size, at = _varint(message, at)
        elif kind in (_EIGHT, _FOUR):
            size = 8 if kind == _EIGHT else 4
        else:
            raise _DamagedRecordError
        if size > len(message) - at:
            raise _DamagedRecordError
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = 0
    for n, byte in enumerate(message[at : at + _MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * n
        if byte < 0x80:
            return number, at + n + 1
    raise _DamagedRecordError


# --- TFRecord -------------------------------------------------------------------------------


def _tf_records(data: bytes) -> Iterator[bytes]:
    """Yield the contents: 8 bytes of length, its checksum, the content, its checksum."""
    at = 0
    while len(data) - at >= 16:
        length, check = struct.unpack_from("<QI", data, at)
        start, end = at + 12, at + 12 + length
        if check != _masked_crc(data[at : at + 8]) or end + 4 > len(data):
            return  # damaged, or not yet whole
        if length <= _MAX_BYTES:
            content = data[start:end]
            if struct.unpack_from("<I", data, end)[0] != _masked_crc(content):
                return
            yield content
        at = end + 4


def _crc_table() -> list[int]:
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)  # CRC-32C, reflected
        table.append(n)
    return table


_TABLE = _crc_table()


def _masked_crc(data: bytes) -> int:
    """Return the CRC-32C (RFC 3720, appendix B.4), masked as in tensorflow's crc32c.h."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
