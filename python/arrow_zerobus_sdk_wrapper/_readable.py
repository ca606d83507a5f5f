"""Waiting at one of the sockets of ``_core``, without the GIL."""

from __future__ import annotations

import select


class Readable:
    """A socket, and what waits until it has something to read."""

    def __init__(self, descriptor: int) -> None:
        self.is_open = True
        self._descriptor = descriptor
        # Windows has no `poll`. Where there is one, `select` takes small descriptors only.
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(descriptor, select.POLLIN)

    def wait(self, timeout_ms: int | None) -> bool:
        """Waits until there is something to read, or the time is over, or the socket is seen to be closed.

        Args:
            timeout_ms: Longest wait in milliseconds; None waits for ever.

        Returns:
            Whether there is something to read.
        """
        if self._poll is None:
            return self._select(None if timeout_ms is None else timeout_ms / 1000)
        events = self._poll.poll(timeout_ms)
        self.is_open = not any(event & select.POLLNVAL for _, event in events)
        return self.is_open and bool(events)

    def _select(self, timeout_secs: float | None) -> bool:
        try:
            return bool(select.select([self._descriptor], [], [], timeout_secs)[0])
        except (OSError, ValueError):
            self.is_open = False
            return False
