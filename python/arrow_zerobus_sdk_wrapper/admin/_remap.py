"""Giving what waits to another table, or another service."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .. import _core
from ._decode import decode


@dataclass(frozen=True)
class Destination:
    """Where the batches of a log go.

    Attributes:
        table: The table.
        endpoint: The Zerobus endpoint.
        unity_catalog_url: The workspace URL; None if it has none.
    """

    table: str
    endpoint: str
    unity_catalog_url: str | None


@dataclass(frozen=True)
class Remap:
    """A log that goes to another table, or another service.

    Attributes:
        directory: Where it is, or was.
        to: Where it will be, or is.
        before: Where its batches go until then.
        after: Where they go after that.
        waiting_rows: Rows that wait.
        doubtful_rows: Of these, rows that may be in the old table already: they were sent on a persistent
            stream of it, and nobody has said what became of them.
        executed: Whether it was done, and is no plan.
        copies: Where the copies of what was changed are; None in a plan.
    """

    directory: Path
    to: Path
    before: Destination
    after: Destination
    waiting_rows: int
    doubtful_rows: int
    executed: bool
    copies: Path | None


def remap(
    directory: str | os.PathLike[str] | None,
    old: str,
    new: str,
    *,
    endpoint: str | None = None,
    unity_catalog_url: str | None = None,
    execute: bool = False,
) -> list[Remap]:
    """Gives the logs of a table to another one, because it was renamed, or to another service.

    Killed in between, a second call goes on where this one ended.

    Args:
        directory: A writer directory, or one with logs below it; None for the directory that wrappers use.
        old: The table that they are for, ``catalog.schema.table``.
        new: The table that they shall be for; the same one, if only the service moved.
        endpoint: The endpoint from now on; it stays if none is given.
        unity_catalog_url: The workspace from now on; it stays if none is given.
        execute: Does it; otherwise only the plan is made.

    Returns:
        The logs, and where they go.

    Raises:
        LockedError: One of the logs has a live owner. Those before it are done.
        ConfigurationError: A name is none of a table, no log is for the old one, or nothing would change.
        StorageError: The disk failed.
    """
    root = None if directory is None else os.fspath(directory)
    return decode(list[Remap], _core.admin_remap(root, old, new, endpoint, unity_catalog_url, execute))
