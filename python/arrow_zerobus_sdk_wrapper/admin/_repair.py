"""Mending a log that cannot be opened."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import _core
from ._decode import decode


@dataclass(frozen=True)
class RepairStep:
    """One step of a repair.

    Attributes:
        action: What is done.
        path: To this file or directory.
        to: Where it goes, if it goes somewhere.
        reason: Why.
    """

    action: Literal["rename", "set_aside", "write_identity", "renew_ledger"]
    path: Path
    to: Path | None
    reason: str


@dataclass(frozen=True)
class Repair:
    """What is wrong with a log, and what is done about it.

    Attributes:
        directory: The writer directory.
        table: The table, as far as it is known.
        executed: Whether it was done, and is no plan.
        steps: The steps, in order; none if there is nothing to mend.
        left: What is wrong and is left as it is, with the reason.
        salvage: The command that exports what can still be read of damaged frames, None if none is damaged.
        backup_bytes: Bytes that are copied before anything is changed.
        backup: Where they were copied to; None in a plan, or if nothing was to be done.
    """

    directory: Path
    table: str | None
    executed: bool
    steps: list[RepairStep]
    left: list[str]
    salvage: str | None
    backup_bytes: int
    backup: Path | None


def repair(
    directory: str | os.PathLike[str],
    *,
    execute: bool = False,
    endpoint: str | None = None,
    unity_catalog_url: str | None = None,
    backup: str | os.PathLike[str] | None = None,
) -> Repair:
    """Finds what keeps a log from being opened, and mends it if that is asked for.

    The whole directory is copied before anything is changed, and nothing is ever deleted. Ctrl-C ends it
    while it copies; then nothing was changed.

    Args:
        directory: The writer directory.
        execute: Does it; otherwise only the plan is made.
        endpoint: Where the batches go; only used if the log has lost its identity and has no other beside it.
        unity_catalog_url: The workspace of that.
        backup: Where the copy goes, which must not be there; by default into the writer directory.

    Returns:
        The steps, and where the copy is.

    Raises:
        LockedError: The log has a live owner.
        ConfigurationError: There is no log, or nothing says where its batches go.
        CorruptionError: Nothing in it can be made out.
        StorageError: The copy has no room, or the disk failed.
    """
    aside = None if backup is None else os.fspath(backup)
    return decode(
        Repair, _core.admin_repair(os.fspath(directory), execute, endpoint, unity_catalog_url, aside)
    )
