"""Pausing the delivery of a log, and ending that."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .. import _core
from ._decode import decode


@dataclass(frozen=True)
class Pause:
    """Somebody has paused delivery.

    Attributes:
        since_unix_micros: Since when, in UTC; 1970 if that is not known.
        reason: What that person has said.
    """

    since_unix_micros: datetime
    reason: str | None


@dataclass(frozen=True)
class PauseChange:
    """What became of a wish to pause delivery, or to go on with it.

    Attributes:
        directory: The writer directory.
        table: The table.
        owner_pid: The process that owns the log and was asked; None if nobody does, and the mark is for the
            next owner.
        before: The pause before, if there was one.
        now: The pause now, if there is one.
        lane: What the delivery was doing before; None when nobody owns the log.
        waiting_rows: Rows that wait.
    """

    directory: Path
    table: str
    owner_pid: int | None
    before: Pause | None
    now: Pause | None
    lane: str | None
    waiting_rows: int


def pause(directory: str | os.PathLike[str], *, reason: str | None = None) -> PauseChange:
    """Sends nothing of a log from now on, until ``resume``; batches are stored all the same.

    What is in flight is waited for, so delivery may go on for a moment. A pause outlives restarts of the
    program. Meanwhile ``flush`` raises ``PausedError``, and ``shutdown`` does not wait.

    Args:
        directory: The writer directory.
        reason: Why, for everybody who asks for the status.

    Returns:
        How it was before, and is now.

    Raises:
        LockedError: A process owns the log, and does not answer within five seconds.
        ConfigurationError: There is no log, or the program of its owner is too old to know this.
        StorageError: The mark of it cannot be written.
    """
    return decode(PauseChange, _core.admin_pause(os.fspath(directory), reason))


def resume(directory: str | os.PathLike[str]) -> PauseChange:
    """Ends a pause if there is one, and lets the owner of a log try to deliver now, with a fresh token.

    Args:
        directory: The writer directory.

    Returns:
        How it was before, and is now.

    Raises:
        LockedError: A process owns the log, and does not answer within five seconds.
        ConfigurationError: Nobody owns the log, and it was not paused; or there is no log.
        StorageError: The mark of a pause cannot be removed.
    """
    return decode(PauseChange, _core.admin_resume(os.fspath(directory)))
