"""What the calls return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict


@dataclass(frozen=True, slots=True)
class TransmissionResult:
    """Result of a ``send_batch`` or ``wait_delivered``.

    Attributes:
        success: True; a failure is raised, not returned.
        error: None; a failure is raised, not returned.
        attempts: Transmissions to the service so far: 0 for a batch that is only stored.
        latency_ms: Milliseconds from the call until the batch was in ``state``.
        batch_size_bytes: Size of the frame in the log.
        state: ``"stored"``, ``"delivered"``, or ``"empty"`` for a batch without rows, of which
            nothing is stored.
        lsn: Number of the frame in its log, for ``wait_delivered``; None for an empty batch.
        durable: Whether the frame was synced to the disk before the call returned.
    """

    success: bool
    error: str | None
    attempts: int
    latency_ms: int | None
    batch_size_bytes: int
    state: Literal["stored", "delivered", "empty"]
    lsn: int | None
    durable: bool


class Waiting(TypedDict):
    """What is in the log and not settled."""

    frames: int
    rows: int
    bytes: int
    oldest_unix_micros: int | None


class Status(TypedDict):
    """Where a log and its delivery stand.

    Attributes:
        table: The table, ``catalog.schema.table``.
        directory: The writer directory.
        state: What the drainer does: ``"idle"``, ``"connecting"``, ``"streaming"``,
            ``"backing_off"``, ``"blocked"``, ``"poison"``, ``"unreadable"`` or ``"stopped"``.
        reason: Why nothing is delivered, None while it goes well.
        appended: Number of the newest frame of the log, 0 if there never was one.
        durable: Highest LSN that is synced to the disk.
        settled: Highest LSN below which everything is settled.
        waiting: What is not settled yet.
        wal_bytes: Bytes that the log takes of its quota.
    """

    table: str
    directory: str
    state: str
    reason: str | None
    appended: int
    durable: int
    settled: int
    waiting: Waiting
    wal_bytes: int
