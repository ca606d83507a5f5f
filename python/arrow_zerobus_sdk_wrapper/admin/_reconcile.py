"""Whether what was delivered is in the table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import _core
from ._decode import decode
from ._rows import Lsns, Moment, Unreadable, given, path


@dataclass(frozen=True)
class KeyCount:
    """How often rows with one key were delivered and are in the table."""

    key: list[str | None]
    """The values of the key columns as text."""
    delivered: int
    found: int
    log: Path
    """The log with the first of these rows."""
    lsn: int
    row: int


@dataclass(frozen=True)
class ReconcileReport:
    """What was compared, and what came of it."""

    table: str
    target: Path
    by_keys: bool
    """Whether rows were compared by their keys; otherwise their number was."""
    delivered_rows: int
    """Rows that the logs say were delivered, as far as they are compared."""
    target_rows: int
    missing_rows: int
    """Rows that were delivered and are not in the target."""
    duplicated_rows: int
    """Rows that are in the target more often than they were delivered."""
    unknown_rows: int | None
    """Rows in the target that no log knows; None where only their number is known."""
    unsettled_rows: int | None
    """Rows in the target that wait in a log: they arrived, and nothing acknowledges it yet."""
    missing: list[KeyCount]
    """The first thousand keys with missing rows."""
    duplicated: list[KeyCount]
    """The first thousand keys with rows that are there too often."""
    limits: list[str]
    """What this comparison cannot know."""
    unreadable: list[Unreadable]


def reconcile(
    directory: str | os.PathLike[str] | None = None,
    *,
    delta: str | os.PathLike[str] | None = None,
    counts: str | os.PathLike[str] | None = None,
    keys: Sequence[str] = (),
    table: str | None = None,
    lsns: Lsns | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> ReconcileReport:
    """Compares what logs say was delivered with what is in the table.

    Takes no lock and writes nothing. By keys it keeps one entry for each key in memory.

    Args:
        directory: A writer directory, or one with logs below it; by default the directory that wrappers use.
        delta: The Delta table in this directory, such as one of the emulator.
        counts: A file with what ``system.lakeflow.zerobus_ingest`` says (columns ``table_name``,
            ``commit_time``, ``committed_records``), or with the result of a ``count(*)``: CSV, JSON or JSON
            Lines.
        keys: The columns whose values name a row; with ``delta``. None of them compares the number of rows.
        table: Only logs of this table.
        lsns: Only rows of these frames; with ``keys``.
        since: Only rows that were stored then or later; with ``keys`` or ``counts``.
        until: Only rows that were stored before that; with ``keys`` or ``counts``.

    Returns:
        What is missing and what is there twice, and what this cannot know.

    Raises:
        ConfigurationError: Neither or both of ``delta`` and ``counts`` are given, or a column is not there.
        StorageError: The target or the disk cannot be read.
        KeyboardInterrupt: Ctrl-C ended it.
    """
    rows = given(table, lsns, since, until)
    found = _core.admin_reconcile(path(directory), rows, path(delta), path(counts), list(keys))
    return decode(ReconcileReport, found)
