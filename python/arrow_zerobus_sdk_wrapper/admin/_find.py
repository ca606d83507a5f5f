"""Which logs there are."""

from __future__ import annotations

import os
from pathlib import Path

from .. import _core
from ._decode import decode


def find_logs(directory: str | os.PathLike[str] | None = None) -> list[Path]:
    """Finds the writer directories at and below a directory.

    Takes no lock and writes nothing.

    Args:
        directory: Where to look, up to three levels down; by default the directory that wrappers use.

    Returns:
        The writer directories, in the order of their names.

    Raises:
        StorageError: A directory cannot be listed.
        ConfigurationError: No directory is given, and there is neither ``XDG_STATE_HOME`` nor a home.
    """
    return decode(list[Path], _core.admin_find_logs(None if directory is None else os.fspath(directory)))
