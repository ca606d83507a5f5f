"""For event loops that cannot watch a socket, such as that of Windows: a thread that watches one for them."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable

from ._readable import Readable

# A watcher whose loop is gone is gone after this time.
_LOOK_INTERVAL_MS = 1000


def watch(loop: asyncio.AbstractEventLoop, descriptor: int, settle: Callable[[], None]) -> Callable[[], None]:
    """Has a loop call something whenever there is something to read.

    Args:
        loop: The loop, which is not kept alive.
        descriptor: The socket.
        settle: A method, whose object is not kept alive. It takes out what there is to read.

    Returns:
        What ends it.
    """
    ended = threading.Event()
    watched = (weakref.ref(loop), Readable(descriptor), weakref.WeakMethod(settle), ended)
    threading.Thread(target=_watch, args=watched, name="arrow-zerobus-loop", daemon=True).start()
    return ended.set


def _watch(
    loop: weakref.ref[asyncio.AbstractEventLoop],
    readable: Readable,
    settle: weakref.WeakMethod[Callable[[], None]],
    ended: threading.Event,
) -> None:
    while readable.is_open and not ended.is_set() and not _is_gone(loop()):
        if readable.wait(_LOOK_INTERVAL_MS):
            called = threading.Event()
            if not _call(loop(), settle(), called):
                return
            while not called.wait(_LOOK_INTERVAL_MS / 1000):
                if ended.is_set() or _is_gone(loop()):
                    return


def _is_gone(loop: asyncio.AbstractEventLoop | None) -> bool:
    return loop is None or loop.is_closed()


def _call(
    loop: asyncio.AbstractEventLoop | None, settle: Callable[[], None] | None, called: threading.Event
) -> bool:
    """Whether there is a loop that will call it."""
    if loop is None or settle is None:
        return False

    def call() -> None:
        try:
            settle()
        finally:
            called.set()

    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        # It is closed.
        return False
    return True
