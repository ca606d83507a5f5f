"""Rows that were refused for good: which, why, and taking them out."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import _core
from ._decode import decode
from ._rows import Lsns, Moment, Reason, Unreadable, given, path


@dataclass(frozen=True)
class QuarantineFile:
    """A file in quarantine."""

    table: str | None
    """The table whose rows it holds; None if the log has lost its identity."""
    path: Path
    lsn: int
    """The frame of its rows."""
    rows: int
    """Its rows that are meant."""
    rows_in_file: int
    codes: dict[str, int]
    """How many of the meant rows have which code."""
    reason: str
    """Why the first of them is here."""
    time_unix_micros: datetime
    """When it was put here; in JSON microseconds since 1970."""
    bytes: int
    is_settled: bool
    """Whether its frame is settled. The file of one that is not stands for its rows, so it must stay."""


@dataclass(frozen=True)
class ReasonSummary:
    """How much of what is in quarantine has one code."""

    files: int
    rows: int


@dataclass(frozen=True)
class QuarantineList:
    """What is in quarantine."""

    files: list[QuarantineFile]
    rows: int
    bytes: int
    reasons: dict[str, ReasonSummary]
    unreadable: list[Unreadable]


@dataclass(frozen=True)
class LeftFile:
    """A file that stays in quarantine though rows of it were meant."""

    path: Path
    lsn: int
    reason: str


@dataclass(frozen=True)
class QuarantineDrop:
    """What was dropped, or would be."""

    executed: bool
    """Whether the files are gone; otherwise this is the plan."""
    files: list[QuarantineFile]
    rows: int
    bytes: int
    left: list[LeftFile]


def quarantine_ls(
    directory: str | os.PathLike[str] | None = None,
    *,
    table: str | None = None,
    lsns: Lsns | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    reasons: Sequence[Reason] = (),
) -> QuarantineList:
    """Lists the files in quarantine, and how many rows have which reason.

    Works beside a live owner; takes no lock and writes nothing.

    Args:
        directory: A writer directory, or one with logs below it; by default the directory that wrappers use.
        table: Only logs of this table.
        lsns: Only rows of these frames.
        since: Only rows that were put there then or later.
        until: Only rows that were put there before that.
        reasons: Only rows with these reasons.

    Returns:
        The files, by log and in the order of their frames.

    Raises:
        ConfigurationError: There is no log, or what is chosen means nothing.
        StorageError: The disk fails.
    """
    rows = given(table, lsns, since, until, reasons=reasons)
    return decode(QuarantineList, _core.admin_quarantine_ls(path(directory), rows))


def quarantine_show(
    directory: str | os.PathLike[str] | None = None,
    *,
    table: str | None = None,
    lsns: Lsns | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    reasons: Sequence[Reason] = (),
    limit: int = 1_000,
) -> list[Any]:
    """Rows in quarantine with why each was refused.

    Works beside a live owner; takes no lock and writes nothing. Needs ``pyarrow``.

    Args:
        directory: A writer directory, or one with logs below it; by default the directory that wrappers use.
        table: Only logs of this table.
        lsns: Only rows of these frames.
        since: Only rows that were put there then or later.
        until: Only rows that were put there before that.
        reasons: Only rows with these reasons.
        limit: So many rows at most.

    Returns:
        Each a ``pyarrow.RecordBatch`` of rows of one frame: its columns, and behind them ``_zerobus_lsn``
        (uint64), ``_zerobus_row`` (uint32), ``_zerobus_time`` (timestamp), ``_zerobus_reason`` and
        ``_zerobus_code`` (strings).

    Raises:
        ConfigurationError: There is no log, or what is chosen means nothing.
        StorageError: The disk fails.
        ModuleNotFoundError: ``pyarrow`` is not installed.
    """
    pyarrow: Any = importlib.import_module("pyarrow")
    rows = given(table, lsns, since, until, reasons=reasons)
    batches = _core.admin_quarantine_show(path(directory), rows, limit)
    return [pyarrow.record_batch(batch) for batch in batches]


def quarantine_drop(
    directory: str | os.PathLike[str] | None = None,
    *,
    table: str | None = None,
    lsns: Lsns | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    reasons: Sequence[Reason] = (),
    everything: bool = False,
    execute: bool = False,
) -> QuarantineDrop:
    """Takes files out of quarantine for good, or says which it would.

    Works beside a live owner. The file of a frame that is not settled stays, and so does one of which only
    some rows are meant. ``status()`` goes on counting what is dropped here as quarantined.

    Args:
        directory: A writer directory, or one with logs below it; by default the directory that wrappers use.
        table: Only logs of this table.
        lsns: Only rows of these frames.
        since: Only rows that were put there then or later.
        until: Only rows that were put there before that.
        reasons: Only rows with these reasons.
        everything: Drops all there is; otherwise something has to say which files are meant.
        execute: Does it; otherwise this is the plan.

    Returns:
        The files that are gone, or would be, and those that stay. When it was done, it survives a power cut.

    Raises:
        ConfigurationError: Nothing says which files are meant, or what is chosen means nothing.
        StorageError: The disk fails; what is removed by then stays removed.
    """
    rows = given(table, lsns, since, until, reasons=reasons)
    return decode(QuarantineDrop, _core.admin_quarantine_drop(path(directory), rows, everything, execute))
