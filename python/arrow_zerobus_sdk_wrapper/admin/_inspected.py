"""What stands in a log, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .._inputs import ArrowRecordBatch


@dataclass(frozen=True, slots=True)
class Run:
    """Numbers one after the other, both ends included.

    Attributes:
        first: The first.
        last: The last.
    """

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The block that a segment begins with.

    Attributes:
        state: Whether it is whole; ``"unwritten"`` is what a crash leaves that came while the segment was
            made.
        base_lsn: The first batch that the segment may hold; None where the header is not whole, as in the
            others.
        previous_lsn: The last batch of the log before it.
        created_unix_micros: When it was made, in microseconds since 1970.
    """

    state: Literal["whole", "unwritten", "damaged"]
    base_lsn: int | None
    previous_lsn: int | None
    created_unix_micros: int | None


@dataclass(frozen=True, slots=True)
class SegmentFooter:
    """The block that a sealed segment ends with.

    Attributes:
        frames: Batches.
        rows: Their rows.
        frame_bytes: Bytes of their frames.
        first_lsn: The first batch.
        last_lsn: The last batch.
        first_unix_micros: When the first was appended, in microseconds since 1970.
        last_unix_micros: When the last was appended.
        end: Where the last frame ends, in bytes from the beginning of the file.
    """

    frames: int
    rows: int
    frame_bytes: int
    first_lsn: int
    last_lsn: int
    first_unix_micros: int
    last_unix_micros: int
    end: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing in a segment.

    Attributes:
        kind: A frame that holds a ``"schema"``, a ``"batch"`` or a ``"footer"``; ``"unreadable"`` bytes that
            are no frame, with frames behind them; or the beginning of an append that was ``"torn"`` or is
            being written.
        offset: Where it begins, in bytes from the beginning of the file.
        bytes: How long it is, with the header of a frame.
        lsn: The number of a batch.
        rows: The rows of a batch.
        fingerprint: What the schema is named by, of a schema and a batch.
        appended_unix_micros: When a batch was appended, in microseconds since 1970.
        checksum_ok: Whether a frame matches its checksum.
        is_void: Whether a batch does not count: its write failed, and a later segment gave its number again.
        is_zero: Whether all of the unreadable bytes are zero.
    """

    kind: Literal["schema", "batch", "footer", "unreadable", "torn"]
    offset: int
    bytes: int
    lsn: int | None = None
    rows: int | None = None
    fingerprint: str | None = None
    appended_unix_micros: int | None = None
    checksum_ok: bool | None = None
    is_void: bool | None = None
    is_zero: bool | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment file.

    Attributes:
        path: The file.
        bytes: Its length.
        segment: Its number.
        epoch: The log that it belongs to.
        state: ``"sealed"`` if it ends in a footer, else ``"open"``: it is written now, or its writer died.
        header: What it begins with.
        footer: What it ends with, None if it is not sealed.
        frames: Batches whose checksums match.
        rows: Their rows.
        pieces: Everything in it, in its order.
        is_damaged: Whether something in it does not match its checksum, or is no frame where one should be.
    """

    path: Path
    bytes: int
    segment: int
    epoch: str
    state: Literal["sealed", "open"]
    header: SegmentHeader
    footer: SegmentFooter | None
    frames: int
    rows: int
    pieces: list[Piece]
    is_damaged: bool


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a batch.

    Attributes:
        name: Its name.
        type: Its Arrow type.
        nullable: Whether it may have nulls.
    """

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class FrameReport:
    """What is known of a frame.

    Attributes:
        directory: The writer directory.
        segment: The segment file.
        offset: Where in it the frame begins, in bytes.
        bytes: How long it is, with its header.
        lsn: Its number.
        rows: How many rows it has.
        appended_unix_micros: When it was appended, in microseconds since 1970.
        fingerprint: What its schema is named by.
        columns: The columns of its schema.
        state: What became of it, as the ledger says: ``"waiting"``, ``"partly"`` settled, ``"delivered"`` and
            kept for replay or not freed yet, ``"quarantined"`` as a whole, or ``"dropped"`` because the log
            was full.
        settled_rows: Rows that are settled, counted from 0.
        quarantined_rows: Rows that are in quarantine; they are settled too.
    """

    directory: Path
    segment: Path
    offset: int
    bytes: int
    lsn: int
    rows: int
    appended_unix_micros: int
    fingerprint: str
    columns: list[Column]
    state: Literal["waiting", "partly", "delivered", "quarantined", "dropped"]
    settled_rows: list[Run]
    quarantined_rows: list[Run]


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame with its rows.

    Attributes:
        report: What is known of it.
        batch: Its rows, as every Arrow library takes them: ``pyarrow.record_batch(frame.batch)``.
    """

    report: FrameReport
    batch: ArrowRecordBatch


@dataclass(frozen=True, slots=True)
class Settled:
    """A position in a log.

    Attributes:
        through: The last frame before it.
        rows_of_next: How many rows of the frame after that lie before it too.
    """

    through: int
    rows_of_next: int


@dataclass(frozen=True, slots=True)
class SettledStretch:
    """A stretch of the log in which everything is settled, above the watermark.

    Attributes:
        start: It begins behind this.
        end: It ends here.
        frames: Frames whose last row is in it.
        rows: Its rows.
    """

    start: Settled
    end: Settled
    frames: int
    rows: int


@dataclass(frozen=True, slots=True)
class DroppedStretch:
    """Frames that were dropped because the log was full.

    Attributes:
        first: The first.
        last: The last.
        is_whole: Whether all frames between them were dropped; False for several stretches that are told as
            one.
    """

    first: int
    last: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What was refused for good, up to where the log is settled.

    Attributes:
        rows: Rows.
        frames: Frames of which no row was delivered.
    """

    rows: int
    frames: int


@dataclass(frozen=True, slots=True)
class Bent:
    """Values that were sent as the nearest that the service can hold.

    Attributes:
        floored_timestamps: Timestamps that lost nanoseconds.
        emptied_lists: Null lists and maps that became empty ones.
    """

    floored_timestamps: int
    emptied_lists: int


@dataclass(frozen=True, slots=True)
class PersistentStream:
    """The persistent stream of a log with ``delivery="exactly_once"``.

    Attributes:
        id: The name that the service has for it.
        next_offset: The first stream offset that is not settled.
        requests: Requests that are recorded and not settled.
        rows: Their rows.
        last_lsn: The last frame that they reach into, None without requests.
        void_offsets: Stream offsets that stand for something that is not sent any more; then the stream
            cannot go on.
        descriptor_bytes: Bytes of the descriptor that its records are made after.
    """

    id: str
    next_offset: int
    requests: int
    rows: int
    last_lsn: int | None
    void_offsets: int
    descriptor_bytes: int


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table.

    Attributes:
        name: Its name.
        type: Its type, as in ``CREATE TABLE``.
        number: The number of its protobuf field.
        nullable: Whether it may be null.
    """

    name: str
    type: str
    number: int
    nullable: bool


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a table, as the catalog told them last.

    Attributes:
        name: The table.
        read_unix_micros: When they were read, in microseconds since 1970.
        columns: The columns, in the order of their numbers.
    """

    name: str
    read_unix_micros: int
    columns: list[TableColumn]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the ledger of a log says, as its last checkpoint left it.

    Attributes:
        directory: The writer directory.
        epoch: The log that it is asked about.
        is_known: Whether it says something of this log; without that, everything here is zero.
        settled: Everything up to here is settled.
        ranges: What is settled above that.
        delivered_frames: Frames delivered since the log began.
        delivered_rows: Rows delivered since the log began.
        damaged_frames: Frames that damage took.
        dropped_frames: Frames dropped because the log was full.
        dropped_rows: Rows dropped because the log was full.
        dropped: Which frames; the oldest of many stretches are told as one.
        quarantined: What was refused for good.
        bent: Values that were sent as the nearest that the service can hold.
        doubtful_rows: Rows that were sent again on a persistent stream because nobody could say what had
            become of them.
        stream: The persistent stream in use, None without one.
        streams_failure: Why what is recorded of persistent streams cannot be read, None if it can.
        table: What is known of the table's columns, None if nothing is.
        set_aside: Ledgers that could not be read and were moved aside.
    """

    directory: Path
    epoch: str
    is_known: bool
    settled: Settled
    ranges: list[SettledStretch]
    delivered_frames: int
    delivered_rows: int
    damaged_frames: int
    dropped_frames: int
    dropped_rows: int
    dropped: list[DroppedStretch]
    quarantined: Quarantined
    bent: Bent
    doubtful_rows: int
    stream: PersistentStream | None
    streams_failure: str | None
    table: Table | None
    set_aside: list[Path]


@dataclass(frozen=True, slots=True)
class StoredSchema:
    """A schema that batches of a log have.

    Attributes:
        fingerprint: What it is named by.
        columns: Its columns, None if they are lost.
        frames: Batches that have it.
        rows: Their rows.
        lsns: Which batches.
        table_match: How it goes with the table as it is known: it ``"fits"``, is a ``"misfit"``, or that is
            ``"unknown"``.
        misfits: Why it does not, for each transport that cannot deliver it.
    """

    fingerprint: str
    columns: list[Column] | None
    frames: int
    rows: int
    lsns: list[Run]
    table_match: Literal["fits", "misfit", "unknown"]
    misfits: dict[str, str]


@dataclass(frozen=True, slots=True)
class Schemas:
    """The schemas of one log.

    Attributes:
        directory: The writer directory.
        table: The table as it is known from before, None if nothing is.
        schemas: Each schema, in the order in which batches came with it.
    """

    directory: Path
    table: Table | None
    schemas: list[StoredSchema]
