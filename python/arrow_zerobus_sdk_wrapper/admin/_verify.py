"""Whether everything that a log promises can be kept with what is on the disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import _core
from ._decode import decode
from ._inspected import Run
from ._status import _path


@dataclass(frozen=True, slots=True)
class VerifyFinding:
    """Something that is wrong with a log, or worth knowing of it.

    Attributes:
        kind: What it is, for programs; ``docs/operations/json.md`` lists the kinds.
        severity: ``"error"`` if something that was promised is not there or an invariant does not hold;
            ``"warning"`` if it is explained and somebody should look at it; ``"info"`` if it is as it should
            be after what happened.
        segment: The file that it is about, None if it is about none.
        offset: Where in the file, in bytes.
        bytes: How many bytes.
        lsns: The frames that it is about.
        text: What it is, for people.
        advice: What that means, and what to do.
    """

    kind: str
    severity: Literal["error", "warning", "info"]
    segment: Path | None
    offset: int | None
    bytes: int | None
    lsns: Run | None
    text: str
    advice: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was found in a log.

    Attributes:
        directory: The writer directory.
        table: The table, None if the file that says so is lost.
        epoch: The log's random number.
        owner_pid: The process that owns the log, None if there is none.
        segments: Segments that were read.
        frames: Frames whose checksums match.
        rows: Their rows.
        bytes: Bytes of the segments.
        first_lsn: The first frame that is there, None if there is none.
        last_lsn: The last frame.
        settled_lsn: Every frame up to here is settled.
        is_sound: Whether no finding is an error.
        findings: What is wrong or worth knowing, the worst first.
    """

    directory: Path
    table: str | None
    epoch: str
    owner_pid: int | None
    segments: int
    frames: int
    rows: int
    bytes: int
    first_lsn: int | None
    last_lsn: int
    settled_lsn: int
    is_sound: bool
    findings: list[VerifyFinding]


def verify(directory: str | os.PathLike[str] | None = None) -> list[VerifyReport]:
    """Checks everything that logs promise: every checksum, and that log, ledger and quarantine go together.

    Reads every byte from the disk; Ctrl-C ends it early. Works beside a live owner, whose new frames are no
    damage. Takes no lock and writes nothing.

    Args:
        directory: A writer directory, or one with logs below it; by default the directory that wrappers use.

    Returns:
        One report for each log, in the order of their names. Damage is no exception, it stands there.

    Raises:
        StorageError: A directory or a log cannot be read.
        CorruptionError: A log does not say whose it is, or a newer version wrote it.
        ConfigurationError: No directory is given, and there is neither ``XDG_STATE_HOME`` nor a home.
    """
    return decode(list[VerifyReport], _core.admin_verify(_path(directory)))
