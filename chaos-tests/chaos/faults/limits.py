"""How many files may a process have open, and how large may they be?

The limits of `setrlimit`, set before a process starts (`prefix`) or while it runs (`change`).
"""

import resource
import shutil

_NAMES = {"nofile": resource.RLIMIT_NOFILE, "fsize": resource.RLIMIT_FSIZE}


def missing() -> str | None:
    """Why there can be no limits here, or `None`."""
    return None if shutil.which("prlimit") else "no prlimit; install util-linux"


def prefix(*, open_files: int | None = None, file_bytes: int | None = None) -> list[str]:
    """What stands before the command of a process with limits. It keeps its process id.

    Args:
        open_files: The most file descriptors that it may have.
        file_bytes: The most bytes that a file which it writes may have.
    """
    words = ["prlimit"]
    if open_files is not None:
        words.append(f"--nofile={open_files}")
    if file_bytes is not None:
        words.append(f"--fsize={file_bytes}")
    return [*words, "--"]


def change(pid: int, *, open_files: int | None = None, file_bytes: int | None = None) -> None:
    """Changes the limits of a process that runs; what it has open stays open.

    Args:
        pid: The process.
        open_files: The most file descriptors that it may have, or as before.
        file_bytes: The most bytes that a file which it writes may have, or as before; -1 for no limit.
    """
    for name, value in (("nofile", open_files), ("fsize", file_bytes)):
        if value is not None:
            hard = resource.prlimit(pid, _NAMES[name])[1]
            resource.prlimit(pid, _NAMES[name], (value, hard))
