"""How a thread without an event loop waits for work of ``_core``: in frames of Python, which Ctrl-C can end.

``_core`` could wait as well, but Python ends a daemon thread that asks for the GIL while the interpreter
exits, and a thread cannot be ended that way inside of ``_core``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from . import _core
from ._fork import after_fork_in_child
from ._readable import Readable
from ._results import TransmissionResult

# A signal that comes right before the wait begins would be noticed only at its end.
_SIGNAL_INTERVAL_MS = 50
# More threads than that at a time make queues of their own for each call.
_IDLE_MAX = 64
# Each call has a queue for itself, so a signal handler may call while the call that it interrupts waits.
_TOKEN = 0


class _Waiter:
    """A completion queue, and what wakes when it has something."""

    def __init__(self) -> None:
        self.queue = _core.CompletionQueue(TransmissionResult)
        self.outcomes = Readable(self.queue.fileno())


_idle: list[_Waiter] = []


def run(
    start: Callable[[_core.CompletionQueue, int], Callable[[], None] | None],
) -> Any:
    """Starts work in ``_core`` and blocks until its outcome is there, without the GIL.

    Args:
        start: Starts the work, whose outcome will stand in the given queue under the given token. Returns
            what stops it when an exception of a signal handler, such as ``KeyboardInterrupt``, ends the wait;
            None if it goes on then.

    Returns:
        The outcome.

    Raises:
        BaseException: The outcome, if it is a failure; or what a signal handler raises.
    """
    try:
        waiter = _idle.pop()
    except IndexError:
        waiter = _Waiter()
    # Handlers of signals run in the main thread only.
    is_main = threading.current_thread() is threading.main_thread()
    interval_ms = _SIGNAL_INTERVAL_MS if is_main else None
    stop = None
    try:
        stop = start(waiter.queue, _TOKEN)
        while not (told := waiter.queue.take(1)):
            waiter.outcomes.wait(interval_ms)
    except BaseException:
        # The queue goes: an outcome may still come into it.
        if stop is not None:
            stop()
        raise
    if len(_idle) < _IDLE_MAX:
        _idle.append(waiter)
    outcome = told[1]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def send(
    wrapper: _core.Wrapper,
    batch: object,
    exported: tuple[object, object] | None,
    traceparent: str | None,
) -> TransmissionResult:
    """Has a batch stored."""

    def start(queue: _core.CompletionQueue, token: int) -> Callable[[], None]:
        wrapper.send_batch(batch, exported, queue, token, traceparent)
        queue.start()
        return lambda: queue.cancel(token)

    result: TransmissionResult = run(start)
    return result


def run_job(start: Callable[[_core.CompletionQueue, int], _core.Job]) -> Any:
    """Starts work that whoever ends the wait stops too, and blocks until its outcome is there."""
    return run(lambda queue, token: start(queue, token).cancel)


def shut_down(wrapper: _core.Wrapper) -> None:
    """Shuts down. A signal that raises ends the wait; the shutdown goes on."""

    def start(queue: _core.CompletionQueue, token: int) -> None:
        wrapper.shutdown(queue, token)

    run(start)


def _forget_parent() -> None:
    # The parent's calls end in the parent.
    _idle.clear()


after_fork_in_child(_forget_parent)
