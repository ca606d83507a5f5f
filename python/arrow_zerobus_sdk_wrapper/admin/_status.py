"""How logs stand, which there are, and whether they stand as somebody wants."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import _core
from ._decode import decode
from ._log_status import LogStatus


@dataclass(frozen=True, slots=True)
class ListedLog:
    """One log, or a directory of which nobody can say what is in it.

    Attributes:
        directory: The writer directory.
        writer: Its name.
        table: The table; None where the log cannot be read, as in the other fields about its contents.
        endpoint: The Zerobus endpoint.
        owner_pid: The process that owns the log, None if there is none.
        is_orphan: Whether nobody owns the log. Its rows wait until a wrapper of the table adopts it, or
            somebody drains it.
        waiting_frames: Frames that wait.
        waiting_rows: Rows that wait.
        log_bytes: Bytes of the log.
        oldest_waiting_secs: Age in seconds of the oldest frame that waits, None if none does.
        reason: Why the log cannot be read, None where it can.
        code: The ``code`` that an exception with this reason has.
    """

    directory: Path
    writer: str
    table: str | None
    endpoint: str | None
    owner_pid: int | None
    is_orphan: bool
    waiting_frames: int | None
    waiting_rows: int | None
    log_bytes: int | None
    oldest_waiting_secs: float | None
    reason: str | None
    code: str | None


@dataclass(frozen=True, slots=True)
class Violation:
    """What of a log is not as it should be.

    Attributes:
        directory: The writer directory.
        kind: Which kind it is. ``"age"``, ``"depth"`` and ``"quarantine"`` are limits that were given; the
            others violate whatever the limits are.
        text: What exactly, and what to do about it.
    """

    directory: Path
    kind: Literal[
        "age",
        "depth",
        "quarantine",
        "orphan",
        "silent",
        "blocked",
        "poisoned",
        "full",
        "settling",
        "damage",
        "unreadable",
    ]
    text: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        is_ok: Whether nothing is violated.
        logs: Logs that were looked at.
        waiting_rows: Rows that wait in all of them.
        violations: What is not as it should be, in the order of the logs.
    """

    is_ok: bool
    logs: int
    waiting_rows: int
    violations: list[Violation]


def status(directory: str | os.PathLike[str] | None = None) -> list[LogStatus]:
    """Tells how logs stand: rows stored, delivered and waiting, and why nothing is delivered.

    A live owner is asked; of a log that nobody owns the files are read. Takes no lock and writes nothing.

    Args:
        directory: A writer directory, or one with logs below it; by default the directory that wrappers use.

    Returns:
        One status for each log, in the order of their names: the members that ``ZerobusWrapper.status()``
        has, as attributes.

    Raises:
        StorageError: A directory or a log cannot be read.
        CorruptionError: A log does not say whose it is.
        ConfigurationError: No directory is given, and there is neither ``XDG_STATE_HOME`` nor a home.
    """
    return decode(list[LogStatus], _core.admin_status(_path(directory)))


def check(
    directory: str | os.PathLike[str] | None = None,
    *,
    max_age_secs: float | None = None,
    max_depth: int | None = None,
    max_quarantine: int | None = None,
) -> CheckReport:
    """Checks whether logs stand as somebody wants: what a probe asks.

    Whatever the limits are, these are violations too: rows that nobody delivers, an owner that does not
    answer, a lane that is blocked, and a log that is poisoned, full, damaged or cannot be read. Takes no lock
    and writes nothing.

    Args:
        directory: A writer directory, or one with logs below it; by default the directory that wrappers use.
        max_age_secs: How many seconds the oldest row of a log may have waited; None sets no limit.
        max_depth: How many rows may wait in a log; None sets no limit.
        max_quarantine: How many files may be in the quarantine of a log; None sets no limit.

    Returns:
        What is violated.

    Raises:
        ConfigurationError: There is no log in or below the directory.
        ValueError: ``max_age_secs`` is negative, or no number.
    """
    found = _core.admin_check(_path(directory), max_age_secs, max_depth, max_quarantine)
    return decode(CheckReport, found)


def ls(directory: str | os.PathLike[str] | None = None) -> list[ListedLog]:
    """Lists the logs at and below a directory: whose they are, what waits in them, and who owns them.

    A log that cannot be read is listed with the reason. Takes no lock and writes nothing.

    Args:
        directory: A writer directory, or one with logs below it; by default the directory that wrappers use.

    Returns:
        The logs, in the order of their names.

    Raises:
        StorageError: The directory itself cannot be listed.
        ConfigurationError: No directory is given, and there is neither ``XDG_STATE_HOME`` nor a home.
    """
    return decode(list[ListedLog], _core.admin_ls(_path(directory)))


def _path(directory: str | os.PathLike[str] | None) -> str | None:
    return None if directory is None else os.fspath(directory)
