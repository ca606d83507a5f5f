"""How much do victims take?

A thread reads ``/proc`` of every victim while it runs. Memory may grow by what the settings allow to be on
its way, by the largest batch that is sent if it is larger than a request, and by a fixed size for everything
else. Only anonymous memory counts: the pages of a program's file, which is large in a debug build, are the
kernel's to drop. Descriptors and threads stay below a number that does not depend on the backlog.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .victims.options import Options

_EVERY_SECS = 0.05
# Beside the window: segments in writing, the ledger's cache, allocators. The wheel's allocator asks for large
# pages: where the ledger is begun anew, a victim took 63 to 66 MiB without them, and 94 to 106 with them.
_MEMORY_BESIDE_BYTES = {"rust": 96 << 20, "wheel": 128 << 20}
# What is on its way is there as Arrow, as records and in the client, each with its own growth. What is sent
# is there in Python, as Arrow, as a frame and in the group that is written.
_COPIES = 4
_DESCRIPTORS_MAX = 128
_THREADS_MAX = 64


@dataclass(slots=True)
class Usage:
    """The highest of each, of one victim.

    Attributes:
        name: Which victim.
        growth_bytes: By how much its memory may grow.
        resident_bytes: Its anonymous memory.
        descriptors: Its open files and sockets.
        threads: Its threads.
        samples: How often it was looked at.
        series: Its memory at each look.
    """

    name: str
    growth_bytes: int
    resident_bytes: int = 0
    descriptors: int = 0
    threads: int = 0
    samples: int = 0
    series: list[int] = field(default_factory=list)
    descriptors_series: list[int] = field(default_factory=list)


class Resources:
    """Watches the victims of a trial."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, Usage] = {}
        self._ended = threading.Event()
        self.usages: list[Usage] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def watch(self, pid: int, name: str, kind: str, options: Options) -> Usage:
        """Looks at this process from now on, until it is gone."""
        largest_bytes = options.window_bytes + options.bad_text_bytes
        usage = Usage(name, _COPIES * largest_bytes + _MEMORY_BESIDE_BYTES[kind])
        with self._lock:
            self._watched[pid] = usage
            self.usages.append(usage)
        return usage

    def close(self) -> None:
        """Looks at nothing any more."""
        self._ended.set()
        self._thread.join()

    def problems(self, resident_at_start: dict[str, int]) -> list[str]:
        """What has grown too much.

        Args:
            resident_at_start: Memory of each victim before it opened its log, by name.
        """
        told = []
        for usage in self.usages:
            start = resident_at_start.get(usage.name)
            if start is None:
                continue
            allowed = start + usage.growth_bytes
            if usage.resident_bytes > allowed:
                told.append(
                    f"R11: {usage.name} took {usage.resident_bytes} bytes of memory, {allowed} are allowed"
                )
            if usage.descriptors > _DESCRIPTORS_MAX:
                told.append(
                    f"R11: {usage.name} had {usage.descriptors} descriptors, {_DESCRIPTORS_MAX} are allowed"
                )
            if usage.threads > _THREADS_MAX:
                told.append(f"R11: {usage.name} had {usage.threads} threads, {_THREADS_MAX} are allowed")
        return told

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_SECS):
            with self._lock:
                watched = list(self._watched.items())
            for pid, usage in watched:
                if not _look(pid, usage):
                    with self._lock:
                        self._watched.pop(pid, None)


def _look(pid: int, usage: Usage) -> bool:
    """Whether the process is still there."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return False
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if "RssAnon" not in fields:
        # It has ended, and nobody has waited for it yet.
        return False
    resident = int(fields["RssAnon"].split()[0]) * 1024
    usage.resident_bytes = max(usage.resident_bytes, resident)
    usage.descriptors = max(usage.descriptors, descriptors)
    usage.threads = max(usage.threads, int(fields["Threads"]))
    usage.samples += 1
    usage.series.append(resident)
    usage.descriptors_series.append(descriptors)
    return True
