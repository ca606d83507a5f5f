"""How a log stands: the members that ``ZerobusWrapper.status()`` has, as attributes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ._pausing import Pause


@dataclass(frozen=True, slots=True)
class Counts:
    """A quantity and where it is.

    Attributes:
        stored: Stored since the log began.
        delivered: Delivered since the log began.
        quarantined: Put into quarantine since the log began. A frame counts here if no row of it was
            delivered.
        dropped: Dropped since the log began because it was full, as ``on_full="drop_oldest"`` allows.
        waiting: Still to be delivered.
    """

    stored: int
    delivered: int
    quarantined: int
    dropped: int
    waiting: int


@dataclass(frozen=True, slots=True)
class QuarantineStatus:
    """What there is in quarantine.

    Attributes:
        directory: The directory; it is there once something was put into it.
        files: Files in it.
        bytes: Their bytes.
        max_bytes: How many bytes there may be; None when nobody owns the log.
    """

    directory: Path
    files: int
    bytes: int
    max_bytes: int | None


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """What the delivery of a log is doing.

    Attributes:
        state: ``"idle"``, ``"connecting"``, ``"streaming"``, ``"isolating"``, ``"backing_off"``,
            ``"blocked"``, ``"poison"``, ``"unreadable"``, ``"paused"``, ``"disabled"`` or ``"stopped"``.
        reason: Why nothing is delivered, None while it goes well.
        code: The ``code`` that an exception with this reason has.
        failures_in_a_row: Failed attempts since the last acknowledgement.
        failures: Failed attempts since the wrapper was opened.
        streams_opened: Streams opened since the wrapper was opened.
        resent_rows: Rows that were on their way when a stream failed, and so are sent again, since the
            wrapper was opened. None with ``delivery="exactly_once"``.
        stream_id: The persistent stream in use, with ``delivery="exactly_once"``.
    """

    state: str
    reason: str | None
    code: str | None
    failures_in_a_row: int
    failures: int
    streams_opened: int
    resent_rows: int | None
    stream_id: str | None


@dataclass(frozen=True, slots=True)
class TableStatus:
    """What is known of the table's columns.

    Attributes:
        columns: How many columns the table has; None if nothing is known of them.
        age_secs: How many seconds ago the catalog told that last.
        reason: Why nothing is known, or why what is known may be out of date; None if neither.
    """

    columns: int | None
    age_secs: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class AdoptionStatus:
    """What was done for owners of other logs of the table that are gone, since the wrapper was opened.

    Attributes:
        drained_logs: Writer directories that were drained to the end.
        delivered_rows: Rows that were delivered for them.
        draining: The writer directory that is being drained.
        left: Writer directories that are left alone although nobody owns them, each with the reason.
    """

    drained_logs: int
    delivered_rows: int
    draining: Path | None
    left: list[str]


@dataclass(frozen=True, slots=True)
class LogStatus:
    """How a log stands; the same as ``zerobus-wal status --format json`` says of one log.

    Attributes:
        table: The table, ``catalog.schema.table``.
        endpoint: The Zerobus endpoint.
        unity_catalog_url: The workspace URL, where tokens and the table's columns come from.
        directory: The writer directory.
        epoch: The log's random number.
        owner_pid: The process that owns the log, None if it is gone.
        settled_lsn: Every frame up to here is settled, durably so.
        durable_lsn: Every frame up to here is durable.
        rows: Rows since the log began.
        frames: Frames since the log began.
        damaged_frames: Frames that the disk damaged and that were stepped over.
        floored_timestamps: Timestamps among the delivered rows that lost nanoseconds.
        emptied_lists: Null lists and maps among the delivered rows that became empty ones.
        doubtful_rows: Rows that were sent again on a persistent stream because nobody could say what had
            become of them, since the log began.
        quarantine: What there is in quarantine.
        log_bytes: Bytes of the log.
        waiting_bytes: Of these, bytes of the frames that wait.
        retained_bytes: Of these, bytes of segments in which every frame is settled.
        wal_max_bytes: Quota of the log in bytes; None when nobody owns the log, as in the next ones.
        wal_min_free_bytes: Bytes that are left free on the file system.
        free_bytes: Bytes that are free on the file system of the log, None if that cannot be told.
        on_full: What ``send_batch`` does when the log is full.
        full: Why the log is full, None if it is not.
        oldest_waiting_secs: Age in seconds of the oldest frame that waits.
        full_in_secs: In how many seconds the log will be full at the pace of the last minute; 0 if it is.
            None if it does not fill, or that is not known.
        drained_in_secs: In how many seconds nothing will wait any more, by the same pace.
        paused: Since when delivery is paused, and why; None if nobody has paused it.
        lane: What the delivery is doing; None when nobody owns the log.
        table_schema: What is known of the table's columns.
        adoption: What was done for owners of other logs of the table that are gone.
        settling_failure: Why settling does not move on, if it does not.
        poisoned: Why the log refuses batches after a failed write or sync, None if it does not.
        damage: What is damaged, by name.
    """

    table: str
    endpoint: str
    unity_catalog_url: str | None
    directory: Path
    epoch: str
    owner_pid: int | None
    settled_lsn: int
    durable_lsn: int
    rows: Counts
    frames: Counts
    damaged_frames: int
    floored_timestamps: int
    emptied_lists: int
    doubtful_rows: int
    quarantine: QuarantineStatus
    log_bytes: int
    waiting_bytes: int
    retained_bytes: int
    wal_max_bytes: int | None
    wal_min_free_bytes: int | None
    free_bytes: int | None
    on_full: Literal["block", "reject", "drop_oldest"] | None
    full: str | None
    oldest_waiting_secs: float | None
    full_in_secs: float | None
    drained_in_secs: float | None
    paused: Pause | None
    lane: LaneStatus | None
    table_schema: TableStatus
    adoption: AdoptionStatus
    settling_failure: str | None
    poisoned: str | None
    damage: list[str]
