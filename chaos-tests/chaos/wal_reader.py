"""What is in a log?

Written from ``docs/internals/file-format.md`` alone, with ``struct``, ``zlib`` and ``pyarrow``; none of the
library's code is used. It reads a directory that nobody owns and changes nothing. What it cannot read it
reports, with file and place.
"""

from __future__ import annotations

import itertools
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

_BLOCK = 4096
_SCHEMA, _BATCH, _FOOTER = 1, 2, 3
_SEGMENT_HEADER = struct.Struct("<8sII5Q")
_FRAME_HEADER = struct.Struct("<4sB3sIIQQQQQQQII")
_FOOTER_BODY = struct.Struct("<7QIIQ")


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole batch frame."""

    path: Path
    offset: int
    lsn: int
    rows: tuple[tuple[int, str | None], ...]
    appended_us: int
    durable: int


@dataclass(slots=True)
class Log:
    """What one writer directory holds.

    Attributes:
        directory: The writer directory.
        epoch: Of ``LOG``.
        frames: Whole frames that are not void, in the order of their numbers.
        void: Whole frames that a later segment declares void.
        problems: What is damaged or not as the format says.
        quarantined: Rows in quarantine: LSN, row in its batch, number, text, code.
    """

    directory: Path
    epoch: int | None = None
    frames: list[Frame] = field(default_factory=list)
    void: list[Frame] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    quarantined: list[tuple[int, int, int, str | None, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Header:
    epoch: int
    segment: int
    base_lsn: int
    previous_lsn: int


def logs(wal_dir: Path) -> list[Log]:
    """Every log below the root of all logs."""
    return [read(path.parent) for path in sorted(wal_dir.glob("*/writer-*/LOG"))]


def read(directory: Path) -> Log:
    """Reads one writer directory."""
    log = Log(directory)
    try:
        log.epoch = int(json.loads((directory / "LOG").read_bytes())["epoch"], 16)
    except (OSError, ValueError, KeyError) as error:
        log.problems.append(f"LOG: {error!r}")
    frames: list[tuple[_Header, list[Frame]]] = []
    for path in sorted(directory.glob("segment-*.wal")):
        read_segment(path, log, frames)
    # A later segment says which of the numbers before it count: an append that failed may be there and void.
    for at, (_, found) in enumerate(frames):
        later = [header.previous_lsn for header, _ in frames[at + 1 :]]
        last_valid = min(later, default=2**64)
        log.frames += [frame for frame in found if frame.lsn <= last_valid]
        log.void += [frame for frame in found if frame.lsn > last_valid]
    numbers = [frame.lsn for frame in log.frames]
    if any(after <= before for before, after in itertools.pairwise(numbers)):
        log.problems.append(f"numbers do not ascend: {numbers}")
    read_quarantine(log)
    return log


def read_segment(path: Path, log: Log, frames: list[tuple[_Header, list[Frame]]]) -> None:
    """Adds the frames of one segment."""
    data = path.read_bytes()
    header = _header(path, data, log)
    if header is None:
        return
    if header.epoch != log.epoch:
        log.problems.append(f"{path.name}: epoch {header.epoch:016x} is not the one of the log")
        return
    schemas: dict[int, bytes] = {}
    found: list[Frame] = []
    checksums = b""
    for offset, fields, body in _frames(path, data, header, log):
        kind, rows, lsn, fingerprint, appended, durable, checksum = fields
        if kind == _SCHEMA:
            schemas[fingerprint] = body
        elif kind == _BATCH:
            checksums += struct.pack("<I", checksum)
            if fingerprint not in schemas:
                log.problems.append(
                    f"{path.name} at {offset}: no schema {fingerprint:016x} before frame {lsn}"
                )
                continue
            try:
                batch = pa.ipc.open_stream(schemas[fingerprint] + body).read_next_batch()
            except (pa.ArrowInvalid, OSError, StopIteration) as error:
                log.problems.append(f"{path.name} at {offset}: frame {lsn} is no batch: {error}")
                continue
            if batch.num_rows != rows:
                log.problems.append(f"{path.name} at {offset}: {batch.num_rows} rows, the header says {rows}")
            pairs = zip(batch.column("id").to_pylist(), batch.column("content").to_pylist(), strict=True)
            found.append(Frame(path, offset, lsn, tuple(pairs), appended, durable))
        else:
            count, _, _, first, last, _, _, footer_checksum, _, end = _FOOTER_BODY.unpack(
                body[: _FOOTER_BODY.size]
            )
            if count != len(found) or (found and (first, last) != (found[0].lsn, found[-1].lsn)):
                log.problems.append(f"{path.name}: the footer counts {count} batches, {len(found)} are there")
            if footer_checksum != zlib.crc32(checksums):
                log.problems.append(f"{path.name}: the footer's checksum of checksums is not right")
            if end > offset:
                log.problems.append(f"{path.name}: the footer says that frames end at {end}, behind itself")
    frames.append((header, found))


def read_quarantine(log: Log) -> None:
    """Adds the rows that were refused."""
    for path in sorted((log.directory / "quarantine").glob("*.arrow")):
        wanted = ["_zerobus_lsn", "_zerobus_row", "id", "content", "_zerobus_code"]
        try:
            table = pa.ipc.open_file(path).read_all()
            table.validate(full=True)
            columns = [table.column(name).to_pylist() for name in wanted]
        # A flipped bit can make a column of another name or type, or texts with ends before their starts.
        except (pa.ArrowException, KeyError, OSError, ValueError) as error:
            log.problems.append(f"quarantine/{path.name}: {error}")
            continue
        log.quarantined += list(zip(*columns, strict=True))


def _header(path: Path, data: bytes, log: Log) -> _Header | None:
    if len(data) < _BLOCK or (not any(data[:_BLOCK]) and not _has_own_frames(path, data, log)):
        # A segment that a crash has left before its header was durable holds nothing. What stands behind may
        # be of another segment, whose file this was.
        return None
    (checksum,) = struct.unpack_from("<I", data, _BLOCK - 4)
    magic, version, reserved, epoch, segment, base, previous, _ = _SEGMENT_HEADER.unpack_from(data)
    if magic != b"ZBWALSEG" or checksum != zlib.crc32(data[: _BLOCK - 4]):
        if _has_own_frames(path, data, log) or not _is_begun(data):
            log.problems.append(f"{path.name}: its header is damaged")
        return None
    if version != 1 or reserved != 0 or segment != int(path.stem.partition("-")[2]):
        log.problems.append(f"{path.name}: version {version}, reserved {reserved}, segment {segment}")
        return None
    return _Header(epoch, segment, base, previous)


def _is_begun(data: bytes) -> bool:
    """Whether the first block may be a header of which a crash has let only one end arrive."""
    return not any(data[:8]) or not any(data[_BLOCK - 4 : _BLOCK])


def _has_own_frames(path: Path, data: bytes, log: Log) -> bool:
    """Whether a frame of this segment stands anywhere in it."""
    header = _Header(log.epoch or 0, int(path.stem.partition("-")[2]), 0, 0)
    return any(isinstance(_frame(data, at, header), tuple) for at in range(_BLOCK, len(data), 8))


def _frames(path: Path, data: bytes, header: _Header, log: Log) -> Iterator[tuple[int, Any, bytes]]:
    """The frames of a segment: where they begin, their fields, their bodies."""
    at, end = _BLOCK, len(data)
    # In a sealed segment nothing between the last frame and the footer means anything.
    footer = _frame(data, end - _BLOCK, header) if end >= 2 * _BLOCK else None
    if isinstance(footer, tuple) and footer[0][0] == _FOOTER:
        end = min(end - _BLOCK, _FOOTER_BODY.unpack(footer[1][: _FOOTER_BODY.size])[-1])
    else:
        footer = None
    torn: list[str] = []
    while at < end:
        frame = _frame(data, at, header)
        if isinstance(frame, tuple):
            # What was taken for a torn end has frames behind it.
            log.problems += torn
            torn = []
            fields, body = frame
            yield at, fields, body
            at += _FRAME_HEADER.size + len(body)
            continue
        following = _next_magic(data, at + 8, end)
        if frame is not None:
            torn.append(f"{path.name} at {at}: {frame}")
        elif rest := data[at:following].lstrip(b"\0"):
            start = (following - len(rest)) // 8 * 8
            torn.append(f"{path.name} at {start}: {following - start} bytes are no frame")
        at = following
    if footer is not None:
        # Below a footer nothing is torn: what is damaged there was whole.
        log.problems += torn
        yield len(data) - _BLOCK, footer[0], footer[1]


def _next_magic(data: bytes, at: int, end: int) -> int:
    """Where a frame may begin next; the end if nowhere."""
    while (at := data.find(b"ZBfr", at, end)) >= 0 and at % 8:
        at += 1
    return at if at >= 0 else end


def _frame(data: bytes, at: int, header: _Header) -> tuple[Any, bytes] | str | None:
    """The frame at this place, what is wrong with it, or None where none begins."""
    if at + _FRAME_HEADER.size > len(data) or data[at : at + 4] != b"ZBfr":
        return None
    (
        _,
        kind,
        reserved,
        length,
        rows,
        lsn,
        epoch,
        segment,
        offset,
        fingerprint,
        appended,
        durable,
        body_crc,
        crc,
    ) = _FRAME_HEADER.unpack_from(data, at)
    if crc != zlib.crc32(data[at : at + _FRAME_HEADER.size - 4]):
        return "the header of a frame is damaged"
    if (epoch, segment) != (header.epoch, header.segment):
        # Of the file's earlier life.
        return None
    if offset != at or reserved != b"\0\0\0":
        return "a frame stands where it does not belong"
    body = data[at + _FRAME_HEADER.size : at + _FRAME_HEADER.size + length]
    if len(body) != length or zlib.crc32(body) != body_crc:
        return f"the body of frame {lsn} is damaged"
    return (kind, rows, lsn, fingerprint, appended, durable, body_crc), body
