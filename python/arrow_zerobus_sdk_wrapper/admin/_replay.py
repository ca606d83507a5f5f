"""Sending stored rows again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, cast

from .. import _core
from ._decode import decode
from ._rows import Given, Lsns, Moment, Reason, RowState, Unreadable, given, path


class ReplaySettings(TypedDict, total=False):
    """How a replay delivers; each means what it means to ``ZerobusWrapper``."""

    endpoint: str
    """By default that of the logs."""
    unity_catalog_url: str | None
    """By default that of the logs."""
    client_id: str | None
    client_secret: str | None
    client_secret_file: str | os.PathLike[str] | None
    ca_certificate_file: str | os.PathLike[str] | None
    client_certificate_file: str | os.PathLike[str] | None
    client_key_file: str | os.PathLike[str] | None
    proxy: str | None
    timestamp_ns: Literal["floor", "error"]
    null_list: Literal["empty", "error"]
    transport: Literal["protobuf", "arrow_flight"]
    compression: Literal["none", "lz4", "zstd"] | None
    delivery: Literal["at_least_once", "exactly_once"]
    schema_grace_secs: float
    quarantine_max_bytes: int
    retry_base_delay_ms: int
    retry_max_delay_ms: int


@dataclass(frozen=True)
class ReplayReport:
    """What a replay did, or would do."""

    outcome: Literal["planned", "done", "already_done"]
    """``"planned"``: nothing was sent, because rows could arrive twice and ``execute`` was not given;
    ``"already_done"``: it was done before, and nothing was sent now."""
    table: str
    endpoint: str
    directory: Path
    """The directory of the replay."""
    is_resumed: bool
    """Whether it went on where it had been interrupted."""
    duplicates: list[str]
    """How rows of it may be in the table twice, whatever happens."""
    started_unix_micros: datetime | None
    finished_unix_micros: datetime | None
    rows: int
    """Rows that were chosen and stored for delivery."""
    rows_by_state: dict[str, int]
    delivered_rows: int
    quarantined_rows: int
    """Rows that were refused again; they are in the quarantine of the replay's directory."""
    resent_rows: int
    """At most so many rows are in the table twice because a stream failed since the last start."""
    unreadable: list[Unreadable]


@dataclass(frozen=True)
class RefusedRow:
    """A row, or all of a frame, that would be refused."""

    log: Path
    lsn: int
    row: int | None
    """Where it stands in the frame; None if the schema of all of its rows is what is wrong."""
    rows: int
    code: str
    reason: str


@dataclass(frozen=True)
class DryRun:
    """What a replay would meet."""

    table: str
    columns_from: Literal["catalog", "cache", "batches"]
    """Where the table's columns are known from; ``"batches"`` if they are not known at all."""
    note: str | None
    """What to think of that; None if the catalog has just told them."""
    rows: int
    refused_rows: int
    refused: list[RefusedRow]
    """The first thousand of these."""
    unreadable: list[Unreadable]


def replay(
    directory: str | os.PathLike[str] | None = None,
    *,
    table: str | None = None,
    lsns: Lsns | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    states: Sequence[RowState] = ("quarantined",),
    reasons: Sequence[Reason] = (),
    to_table: str | None = None,
    wal_dir: str | os.PathLike[str] | None = None,
    rate: int | None = None,
    execute: bool = False,
    again: bool = False,
    timeout: float | None = None,
    **settings: Unpack[ReplaySettings],
) -> ReplayReport:
    """Sends stored rows again: to their table, or to another one.

    Works beside a live owner: the logs are only read. The rows go through a log of the replay's own, which is
    named after what is asked for: after an interruption the same call goes on where it was, and leaves no row
    out.

    Args:
        directory: A writer directory, or one with logs below it; by default the directory that wrappers use.
        table: Only logs of this table.
        lsns: Only these frames.
        since: Only rows that were stored then or later; of rows in quarantine, put there then or later.
        until: Only rows that were stored, or put into quarantine, before that.
        states: Only rows in these states.
        reasons: Only rows in quarantine with these reasons; with ``states=["quarantined"]``.
        to_table: Another table than that of the logs.
        wal_dir: Where the replay keeps its log; by default where the logs are.
        rate: Rows per second, at most.
        execute: Sends rows though they may be in the table already, or arrive there by other means. Without
            it, such a replay is only planned.
        again: Does a replay anew that is done.
        timeout: Seconds until it gives up; what is stored by then is delivered by the same call later.
        settings: How to deliver.

    Returns:
        What became of it, once each row is delivered or in the quarantine of the replay.

    Raises:
        ConfigurationError: Something is wrong with what is asked for, or the frames are gone.
        LockedError: The same replay is being done by another process.
        FlushTimeoutError: The time is over.
        AuthenticationError: The destination refuses us. What is stored goes on later.
        StorageError: The disk fails.
        KeyboardInterrupt: Ctrl-C ended it; the same call goes on later.
    """
    rows = given(table, lsns, since, until, states, reasons)
    how = (to_table, path(wal_dir), rate, execute, again, timeout)
    return decode(ReplayReport, _core.admin_replay(path(directory), rows, how, _plain(settings)))


def replay_dry_run(
    directory: str | os.PathLike[str] | None = None,
    *,
    table: str | None = None,
    lsns: Lsns | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    states: Sequence[RowState] = ("quarantined",),
    reasons: Sequence[Reason] = (),
    to_table: str | None = None,
    **settings: Unpack[ReplaySettings],
) -> DryRun:
    """Says which rows a replay would have refused, and why. Converts them all and sends none.

    Args:
        directory: A writer directory, or one with logs below it; by default the directory that wrappers use.
        table: Only logs of this table.
        lsns: Only these frames.
        since: Only rows that were stored then or later; of rows in quarantine, put there then or later.
        until: Only rows that were stored, or put into quarantine, before that.
        states: Only rows in these states.
        reasons: Only rows in quarantine with these reasons.
        to_table: Another table than that of the logs.
        settings: How to deliver; the catalog is asked with them for the table's columns.

    Returns:
        The rows that would be refused, by the columns that the table has now.

    Raises:
        ConfigurationError: Something is wrong with what is asked for.
        StorageError: The disk fails.
        KeyboardInterrupt: Ctrl-C ended it.
    """
    rows: Given = given(table, lsns, since, until, states, reasons)
    how = (to_table, None, None, False, False, None)
    return decode(DryRun, _core.admin_replay_dry_run(path(directory), rows, how, _plain(settings)))


def _plain(settings: ReplaySettings) -> dict[str, Any]:
    return cast("dict[str, Any]", dict(settings))
