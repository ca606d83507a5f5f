"""How does the power go, for a real file system?

ext4 and XFS have an ioctl that stops them as a power cut would (`EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN`,
without flushing the log): nothing more reaches the image, every file operation fails, and what was in the
page cache is gone after the unmount. The next mount recovers as after a real cut. The drive's own cache is
not lost: `blockdev` does that.
"""

import fcntl
import os
import struct
import time
from pathlib import Path

from .mounts import MIB, Kind, Mount, make_image

_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("=I", 2)
CUTTABLE: tuple[Kind, ...] = ("ext4", "xfs")


class PowerCut:
    """A file system in an image, whose power can be cut.

    Attributes:
        mount: The file system.
        cuts: How often the power went.
    """

    def __init__(self, directory: Path, kind: Kind, size_bytes: int | None = None) -> None:
        """Makes the image `disk.img` in the directory; it will be mounted at `disk` beside it."""
        if kind not in CUTTABLE:
            raise ValueError(f"{kind} cannot be cut by ioctl; {', '.join(CUTTABLE)} can")
        directory.mkdir(parents=True, exist_ok=True)
        image = directory / "disk.img"
        make_image(image, kind, size_bytes or (300 * MIB if kind == "xfs" else 64 * MIB))
        self.mount = Mount(directory / "disk", kind, image)
        self.cuts = 0

    def cut(self) -> int:
        """Cuts the power. Processes with files there get errors from now on.

        Returns:
            The monotonic clock in nanoseconds, read before: what was promised later than that may have been
            promised by a file system that was already going, and is ambiguous.
        """
        directory = os.open(self.mount.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            before_ns = time.monotonic_ns()
            fcntl.ioctl(directory, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(directory)
        self.cuts += 1
        return before_ns

    def restore(self) -> None:
        """Brings the power back: unmounts and mounts, with the recovery of the file system.

        No process may have files open there.
        """
        self.mount.unmount()
        self.mount.mount()
