"""How does a test set the time of day of one process?

`Clock` owns a small file that `preload.c` maps into the victim. What is set holds at once, for every process
that was started with `environment()`, and over restarts.
"""

import mmap
import struct
import time
from pathlib import Path

from .compile import compiled

_LAYOUT = struct.Struct("<qqQ")
NANOS = 1_000_000_000


class Clock:
    """The time of day of the processes that are started with `environment()`."""

    def __init__(self, path: Path) -> None:
        """A clock that is right, in a new file."""
        path.write_bytes(bytes(_LAYOUT.size))
        self._path = path
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _LAYOUT.size)

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to live by this clock."""
        return {"LD_PRELOAD": str(compiled("preload.c", "-shared", "-fPIC")), "CHAOS_CLOCK": str(self._path)}

    def shift(self, seconds: float) -> None:
        """Sets the clock so many seconds ahead of the true time, or behind it; it runs from there."""
        self._set(int(seconds * NANOS), 0)

    def jump_to(self, unix_seconds: float) -> None:
        """Sets the clock to a date, as seconds since 1970; it runs from there."""
        self.shift(unix_seconds - time.time())

    def freeze(self) -> None:
        """Stops the clock at what it shows."""
        self._set(self.offset_ns, time.time_ns() + self.offset_ns)

    def heal(self) -> None:
        """Sets the clock right again."""
        self._set(0, 0)

    @property
    def offset_ns(self) -> int:
        """How far the clock is ahead of the true time, in nanoseconds."""
        offset: int = _LAYOUT.unpack(self._shared)[0]
        return offset

    @property
    def asked(self) -> int:
        """How often a process has asked for the time of day."""
        asked: int = _LAYOUT.unpack(self._shared)[2]
        return asked

    def _set(self, offset_ns: int, frozen_ns: int) -> None:
        # The counter behind is the victim's.
        self._shared[:16] = struct.pack("<qq", offset_ns, frozen_ns)
