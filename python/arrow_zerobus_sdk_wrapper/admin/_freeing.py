"""Freeing what is settled of a log and only kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .. import _core
from ._decode import decode


@dataclass(frozen=True)
class SegmentFate:
    """What becomes of a segment.

    Attributes:
        first_lsn: Its first frame.
        last_lsn: Its last frame.
        bytes: Its bytes.
        is_freed: Whether it is freed.
        reason: Why it is still there or, if it is not freed, why it stays.
    """

    first_lsn: int
    last_lsn: int
    bytes: int
    is_freed: bool
    reason: str


@dataclass(frozen=True)
class Reclaim:
    """What was freed of a log, or would be.

    Attributes:
        directory: The writer directory.
        table: The table.
        owner_pid: The process that owns the log and was asked; None if nobody does.
        executed: Whether it was done, and is no plan.
        settled_lsn: Every frame up to here is settled, durably so.
        segments: The segments with frames as they were before, in order.
        freed_bytes: Bytes that were freed; 0 in a plan.
    """

    directory: Path
    table: str
    owner_pid: int | None
    executed: bool
    settled_lsn: int
    segments: list[SegmentFate]
    freed_bytes: int


def reclaim(directory: str | os.PathLike[str], *, dry_run: bool = False) -> Reclaim:
    """Frees the segments of a log of which every frame is settled, though they are retained for replay.

    Nothing that waits is touched. A log with a live owner is freed by that, one without is taken for a
    moment.

    Args:
        directory: The writer directory.
        dry_run: Only tells what would be freed, and why the other segments stay.

    Returns:
        The segments, and what was freed.

    Raises:
        LockedError: A process owns the log, and does not answer within five seconds.
        ConfigurationError: There is no log, or the program of its owner is too old to know this.
        StorageError: The disk failed; what was freed until then is freed.
        CorruptionError: The log cannot be understood.
    """
    return decode(Reclaim, _core.admin_reclaim(os.fspath(directory), not dry_run))
