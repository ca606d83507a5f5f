"""From work that runs by itself in ``_core`` to asyncio futures.

No thread of ``_core`` ever takes the GIL. It puts its outcome into the completion queue of the bridge
and, if the queue was empty, one byte into a socket that the event loop watches; the loop's own thread
takes the outcomes out. So an interpreter that exits with work in flight has nothing to wait for, and a
task that was cancelled is an outcome that nobody wants.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any

from . import _core
from ._fork import after_fork_in_child
from ._results import TransmissionResult
from ._watcher import watch

# So many outcomes are told in one turn of the loop: with more, each would be out of the processor's cache
# before its task runs, and no task would give the core new work meanwhile.
_TURN = 128


class Bridge:
    """The completion queue of one event loop. Used only by the thread that runs the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        self._queue = _core.CompletionQueue(TransmissionResult)
        self._tokens = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._end_watch: Callable[[], None] | None = None
        try:
            loop.add_reader(self._queue.fileno(), self._settle)
        except NotImplementedError:
            self._end_watch = watch(loop, self._queue.fileno(), self._settle)

    async def run(
        self,
        start: Callable[[_core.CompletionQueue, int], _core.Job],
        *,
        cancellable: bool = True,
    ) -> Any:
        """Starts work in ``_core`` and waits for its outcome.

        Args:
            start: Starts the work, whose outcome will stand in the given queue under the given token.
            cancellable: Whether a cancelled wait stops the work, or only the waiting.
        """
        token = next(self._tokens)
        future = asyncio.get_running_loop().create_future()
        job = start(self._queue, token)
        self._waiting[token] = future
        try:
            return await future
        except (asyncio.CancelledError, GeneratorExit):
            if cancellable:
                job.cancel()
            raise

    def cancel(self, token: int) -> None:
        """Stops a send that has not ended. What it has handed to the log is finished all the same."""
        self._queue.cancel(token)

    def _settle(self) -> None:
        self._queue.settle(self._waiting, _TURN)

    def close(self) -> None:
        """Closes the socket; outcomes that come later go nowhere."""
        if self._end_watch is not None:
            self._end_watch()
        self._queue.close()
        self._waiting.clear()


_bridges: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Bridge] = weakref.WeakKeyDictionary()
_bridges_lock = threading.Lock()


def _no_bridge() -> Bridge | None:
    return None


# The one that was asked for last: most programs have one loop, and a weak dictionary is slow.
_newest: Callable[[], Bridge | None] = _no_bridge


def running_bridge() -> Bridge:
    """The bridge of the running event loop; made at its first use."""
    global _newest
    loop = asyncio.get_running_loop()
    # Only the thread that runs the loop makes its bridge, so one that is there needs no lock.
    bridge = _bridges.get(loop)
    if bridge is not None:
        _newest = weakref.ref(bridge)
        return bridge
    with _bridges_lock:
        # asyncio tells nobody that a loop was closed: see what became of the others.
        for other in [other for other in _bridges if other.is_closed()]:
            _bridges.pop(other).close()
        bridge = _bridges[loop] = Bridge(loop)
        return bridge


def send(
    wrapper: _core.Wrapper,
    batch: object,
    exported: tuple[object, object] | None,
    traceparent: str | None,
) -> tuple[Bridge, int, asyncio.Future[TransmissionResult]]:
    """Has a batch stored, together with all others of this turn of the running loop.

    Returns:
        What to cancel it with, and by which token, and its outcome.
    """
    # As running_bridge, whose call would take longer than much of what a send needs.
    loop = asyncio.get_running_loop()
    bridge = _newest()
    if bridge is None or bridge.loop() is not loop:
        bridge = running_bridge()
    token = next(bridge._tokens)
    if wrapper.send_batch(batch, exported, bridge._queue, token, traceparent):
        loop.call_soon(bridge._queue.start)
    future = bridge._waiting[token] = loop.create_future()
    return bridge, token, future


def _forget_parent() -> None:
    # The parent's loops do not run here, and its lock may have been held when it forked.
    global _bridges_lock, _newest
    _bridges_lock, _newest = threading.Lock(), _no_bridge
    _bridges.clear()


after_fork_in_child(_forget_parent)
