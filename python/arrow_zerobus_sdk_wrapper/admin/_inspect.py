"""What exactly stands in a log."""

from __future__ import annotations

import os

from .. import _core
from ._decode import decode
from ._inspected import Frame, FrameReport, Ledger, Schemas, Segment
from ._status import _path


def inspect_segment(path: str | os.PathLike[str]) -> Segment:
    """Reads a segment file, frame by frame, and compares every checksum.

    Takes no lock and writes nothing; works beside a live owner.

    Args:
        path: The file.

    Returns:
        What stands in it, whole or damaged.

    Raises:
        StorageError: The file cannot be read.
        ConfigurationError: Nothing says which segment of which log it is.
    """
    return decode(Segment, _core.admin_inspect_segment(os.fspath(path)))


def inspect_frame(lsn: int, directory: str | os.PathLike[str] | None = None) -> Frame:
    """Reads a frame: what is known of it, and its rows.

    Takes no lock and writes nothing; works beside a live owner, of which the ledger is a moment behind.

    Args:
        lsn: Its number.
        directory: The writer directory, or one with a single log below it; by default the directory that
            wrappers use.

    Returns:
        The frame.

    Raises:
        ConfigurationError: No frame has this number, or there is not exactly one log.
        CorruptionError: The frame is there and is not whole.
        StorageError: The log cannot be read.
    """
    report, rows = _core.admin_inspect_frame(lsn, _path(directory))
    return Frame(decode(FrameReport, report), rows)


def inspect_ledger(directory: str | os.PathLike[str] | None = None) -> Ledger:
    """Reads the ledger of a log, from a copy: what is settled, counted, sent and known.

    Args:
        directory: The writer directory, or one with a single log below it; by default the directory that
            wrappers use.

    Returns:
        What it says.

    Raises:
        ConfigurationError: There is not exactly one log.
        CorruptionError: The ledger is damaged.
        StorageError: The log or its ledger cannot be read.
    """
    return decode(Ledger, _core.admin_inspect_ledger(_path(directory)))


def inspect_schema(directory: str | os.PathLike[str] | None = None) -> Schemas:
    """Reads which batches of a log have which schema, and how each goes with the table as it is known.

    Reads the header of every frame that is there. Takes no lock and writes nothing.

    Args:
        directory: The writer directory, or one with a single log below it; by default the directory that
            wrappers use.

    Returns:
        The schemas.

    Raises:
        ConfigurationError: There is not exactly one log.
        CorruptionError: The ledger is damaged.
        StorageError: The log or its ledger cannot be read.
    """
    return decode(Schemas, _core.admin_inspect_schema(_path(directory)))
