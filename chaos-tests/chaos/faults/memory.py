"""How little memory may a process have?

`MemoryLimit` is a control group with a limit, of version 1 or 2, whichever this machine has. The kernel kills
what needs more.
"""

import contextlib
import os
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_ROOT = Path("/sys/fs/cgroup")
_EMPTY_SECS = 10.0


def missing() -> str | None:
    """Why there can be no limit here, or `None`."""
    if os.geteuid() != 0:
        return "a memory limit needs root"
    if (_ROOT / "memory" / "cgroup.procs").exists():
        return None
    controllers = _ROOT / "cgroup.controllers"
    if controllers.exists() and "memory" in controllers.read_text().split():
        return None
    return "no control group with a memory controller under /sys/fs/cgroup"


class MemoryLimit:
    """A group of processes with a memory limit, as long as the `with` block runs.

    Args:
        name: Of the group; unique on this machine.
        limit_bytes: Anonymous memory and page cache of its processes together; the kernel takes page cache
            away first.
    """

    def __init__(self, name: str, limit_bytes: int) -> None:
        """Makes nothing yet."""
        self._is_old = (_ROOT / "memory" / "cgroup.procs").exists()
        self._group = (_ROOT / "memory" if self._is_old else _ROOT) / name
        self._limit_bytes = limit_bytes

    def __enter__(self) -> Self:
        if not self._is_old:
            (_ROOT / "cgroup.subtree_control").write_text("+memory")
        self._group.mkdir()
        (self._group / ("memory.limit_in_bytes" if self._is_old else "memory.max")).write_text(
            str(self._limit_bytes)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in (self._group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        # The kernel lets go of a process some moments after its end.
        deadline = time.monotonic() + _EMPTY_SECS
        while True:
            try:
                self._group.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def prefix(self) -> list[str]:
        """What stands before the command of a process that is to live in the group; it keeps its id."""
        return ["sh", "-c", f'echo $$ > {self._group}/cgroup.procs && exec "$@"', "sh"]

    def kills(self) -> int:
        """How many processes of the group the kernel has killed for their memory."""
        events = self._group / ("memory.oom_control" if self._is_old else "memory.events")
        for line in events.read_text().splitlines():
            name, value = line.split()
            if name == "oom_kill":
                return int(value)
        raise RuntimeError(f"{events} does not count kills")

    def peak_bytes(self) -> int:
        """The most memory that the group had, page cache included."""
        name = "memory.max_usage_in_bytes" if self._is_old else "memory.peak"
        return int((self._group / name).read_text())
