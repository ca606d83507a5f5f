"""Stored rows as files that others read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import _core
from ._decode import decode
from ._rows import Lsns, Moment, Reason, RowState, Unreadable, given, path


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written."""

    table: str | None
    """The table whose rows it holds; ``None`` if their log has lost its identity."""
    path: Path
    rows: int
    bytes: int
    first_lsn: int
    """The first frame of which it has rows."""
    last_lsn: int
    """The last frame of which it has rows; of several logs, that of the last one."""
    columns: list[str]
    """Each as ``"name: type"``."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported."""

    files: list[ExportedFile]
    """One for each table and schema, in the order in which these came; none if no row was chosen."""
    rows: int
    rows_by_state: dict[str, int]
    unreadable: list[Unreadable]
    """What was asked for and is not there to be read."""


def export(
    output: str | os.PathLike[str],
    directory: str | os.PathLike[str] | None = None,
    *,
    to: Literal["parquet", "arrow", "csv", "jsonl"] = "parquet",
    table: str | None = None,
    lsns: Lsns | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    states: Sequence[RowState] = ("waiting", "delivered", "quarantined"),
    reasons: Sequence[Reason] = (),
    with_position: bool = False,
    force: bool = False,
) -> ExportReport:
    """Writes stored rows into files.

    Works beside a live owner; takes no lock and changes no log. One batch is in memory at a time. A file has
    its name only when it is complete and durable.

    Args:
        output: The file. Each further schema has another one beside it: ``rows.parquet``,
            ``rows.schema-2.parquet``. With logs of several tables each table has its own,
            ``rows.main.default.events.parquet``.
        directory: A writer directory, or one with logs below it; by default the directory that wrappers use.
        to: As what.
        table: Only logs of this table.
        lsns: Only these frames.
        since: Only rows that were stored then or later; of rows in quarantine, put there then or later.
        until: Only rows that were stored, or put into quarantine, before that.
        states: Only rows in these states.
        reasons: Only rows in quarantine with these reasons; with ``states=["quarantined"]``.
        with_position: Adds ``_zerobus_lsn``, ``_zerobus_row`` and ``_zerobus_time``, and with rows in
            quarantine ``_zerobus_reason`` and ``_zerobus_code``.
        force: Replaces files that are there.

    Returns:
        What was written, and what could not be read.

    Raises:
        ConfigurationError: A file is there already, or what is chosen means nothing.
        ConversionError: The format has nothing for a column.
        StorageError: The disk fails.
        KeyboardInterrupt: Ctrl-C ended it; no file was written.
    """
    rows = given(table, lsns, since, until, states, reasons)
    return decode(
        ExportReport, _core.admin_export(path(directory), rows, os.fspath(output), to, force, with_position)
    )
