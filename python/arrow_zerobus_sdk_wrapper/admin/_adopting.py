"""Logs whose owners are gone, and live wrappers that look for them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .. import _core
from ._decode import decode


@dataclass(frozen=True)
class Orphan:
    """A log with rows that wait and without an owner.

    Attributes:
        directory: The writer directory.
        table: The table.
        waiting_rows: Rows that wait in it.
        adopter_pid: A process that looks for it now, and adopts it unless another one is faster; None if
            there is none.
        left: Why nobody adopts it, and what to do; None if somebody does.
    """

    directory: Path
    table: str
    waiting_rows: int
    adopter_pid: int | None
    left: str | None


def adopt(directory: str | os.PathLike[str] | None = None) -> list[Orphan]:
    """Tells live wrappers to look now for logs whose owners are gone.

    They look by themselves every few seconds, and every minute at what they could not open: this is for when
    the reason is gone.

    Args:
        directory: A writer directory, or one with logs below it; by default the directory that wrappers use.

    Returns:
        Those logs, and who looks for them.

    Raises:
        StorageError: A directory cannot be listed.
        CorruptionError: The only log that is meant cannot be understood.
        ConfigurationError: No directory is given, and there is neither ``XDG_STATE_HOME`` nor a home.
    """
    return decode(list[Orphan], _core.admin_adopt(None if directory is None else os.fspath(directory)))
