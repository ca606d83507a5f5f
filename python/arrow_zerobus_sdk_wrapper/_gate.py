"""Which threads are inside of an exporter's code, so that the interpreter does not exit meanwhile.

Python ends a daemon thread that asks for the GIL while the interpreter exits by unwinding its stack, and an
exporter that runs Python, such as a reader of ``pyarrow`` over a generator, aborts the process then. So the
exit waits a moment for those that are inside, and lets no other thread in any more.
"""

from __future__ import annotations

import atexit
import threading
from types import TracebackType

from ._fork import after_fork_in_child

# Most exporters give a batch sooner; for one that does not the exit waits no longer.
_EXIT_WAIT_SECS = 1.0


class Gate:
    """What a thread passes before it enters an exporter, as a context manager."""

    def __init__(self) -> None:
        self.reopen()

    def reopen(self) -> None:
        """Forgets who is inside, and who has closed it."""
        self._changed = threading.Condition()
        self._depth_of_thread: dict[int, int] = {}
        self._closed_by: int | None = None

    def __enter__(self) -> None:
        this = threading.get_ident()
        with self._changed:
            # The thread that exits may have handlers to run, and one that is inside has to come out.
            while self._closed_by not in (None, this) and this not in self._depth_of_thread:
                self._changed.wait()
            self._depth_of_thread[this] = self._depth_of_thread.get(this, 0) + 1

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        this = threading.get_ident()
        with self._changed:
            self._depth_of_thread[this] -= 1
            if not self._depth_of_thread[this]:
                del self._depth_of_thread[this]
                self._changed.notify_all()

    def close(self) -> None:
        """Lets no other thread in, and waits for those that are inside."""
        with self._changed:
            self._closed_by = threading.get_ident()
            self._changed.wait_for(lambda: not self._depth_of_thread, timeout=_EXIT_WAIT_SECS)


gate = Gate()


atexit.register(gate.close)
# The parent's threads do not run in the child, and one of them may have held the lock.
after_fork_in_child(gate.reopen)
