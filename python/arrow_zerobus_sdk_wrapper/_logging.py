"""From the core's log to Python's ``logging``.

No thread of ``_core`` ever takes the GIL. Its records wait in a bounded queue; one daemon thread of Python's,
started with the first wrapper of a process, waits until there are some and hands them to
``arrow_zerobus_sdk_wrapper.<area>``. A handler that blocks or raises holds up that thread and nobody else:
what finds no place meanwhile is counted, and the count is a record of its own.
"""

from __future__ import annotations

import atexit
import json
import logging
import sys
import threading
import traceback
from typing import Any

from . import _core
from ._fork import after_fork_in_child
from ._readable import Readable

_ROOT = logging.getLogger(__package__)
# As libraries do: a program that has not set up logging sees nothing on stderr.
_ROOT.addHandler(logging.NullHandler())

# A change of levels is seen at the latest after this time.
_LOOK_INTERVAL_MS = 1000
# Taken at once: the interpreter's other threads have a turn in between.
_TURN = 100
# How long an exit waits for handlers of the last records.
_LAST_WORDS_SECS = 1.0
# The levels that the core knows, as in `src/python/log.rs`.
_LEVELS = (5, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_NOTHING = logging.CRITICAL + 1


class _Carrier:
    """Hands over the records of this process until the interpreter exits."""

    def __init__(self) -> None:
        _core.set_log_level(_least_wanted())
        descriptor = _core.start_log()
        self._ends = self._has_given_up = False
        self._thread = threading.Thread(
            target=self._carry, args=(descriptor,), name="arrow-zerobus-log", daemon=True
        )
        self._thread.start()
        atexit.register(self.end)

    def end(self) -> None:
        """Hands over what there is, for a moment, and ends."""
        self._ends = True
        _core.wake_log()
        self._thread.join(_LAST_WORDS_SECS)
        # From now on handlers are closed.
        self._has_given_up = True

    def _carry(self, descriptor: int) -> None:
        waiting = Readable(descriptor)
        while True:
            waiting.wait(_LOOK_INTERVAL_MS)
            if not waiting.is_open:
                # Somebody closed every descriptor of the process, as daemons do.
                return
            # Read before the queue: what was logged before the end is handed over.
            ends = self._ends
            taken = json.loads(_core.take_log(_TURN))
            for record in taken["records"]:
                if self._has_given_up:
                    return
                _hand_over(record)
            if taken["dropped"]:
                _tell_dropped(taken["dropped"])
            _core.set_log_level(_least_wanted())
            if ends and len(taken["records"]) < _TURN:
                return


def _least_wanted() -> int:
    """The lowest level that a logger of this package is enabled for."""
    known = logging.root.manager.loggerDict
    loggers = [_ROOT]
    for name, logger in list(known.items()):
        # Those that nobody asked for yet are places in the tree and no loggers.
        if name.startswith(f"{__package__}.") and isinstance(logger, logging.Logger):
            loggers.append(logger)
    return next((level for level in _LEVELS if any(it.isEnabledFor(level) for it in loggers)), _NOTHING)


def _hand_over(told: dict[str, Any]) -> None:
    logger = logging.getLogger(f"{__package__}.{told['area']}") if told["area"] else _ROOT
    level, fields = told["level"], dict(told["fields"])
    if not logger.isEnabledFor(level):
        return
    said = ", ".join(f"{name}={value}" for name, value in fields.items())
    message = f"{told['message']}: {said}" if said else told["message"]
    record = logger.makeRecord(
        logger.name, level, told["file"], told["line"], message, (), None, extra={"fields": fields}
    )
    # It happened when it was queued, not now.
    record.created = told["unix_micros"] / 1e6
    record.msecs = told["unix_micros"] // 1000 % 1000
    _handle(logger, record)


def _tell_dropped(count: int) -> None:
    message = f"records of the log were not kept, because handlers were too slow: count={count}"
    if _ROOT.isEnabledFor(logging.WARNING):
        fields = {"fields": {"count": count}}
        _handle(
            _ROOT,
            _ROOT.makeRecord(_ROOT.name, logging.WARNING, __file__, 0, message, (), None, extra=fields),
        )


def _handle(logger: logging.Logger, record: logging.LogRecord) -> None:
    try:
        logger.handle(record)
    except Exception:
        # A handler or filter that raises loses its record and not the others. `logging` tells of it so too.
        if logging.raiseExceptions and sys.stderr:
            traceback.print_exc()


_carrier: _Carrier | None = None
_lock = threading.Lock()


def start() -> None:
    """Lets the core's log come to ``logging`` from now on; once in a process."""
    global _carrier
    with _lock:
        if _carrier is None:
            try:
                _carrier = _Carrier()
            except (RuntimeError, OSError):
                # The interpreter exits, or the system has no thread or descriptor left. What the wrapper
                # needs fails by itself; nobody misses a log because of that.
                return


def _forget_parent() -> None:
    # The parent's thread does not run here, and its lock may have been held when it forked.
    global _carrier, _lock
    if _carrier is not None:
        atexit.unregister(_carrier.end)
    _carrier, _lock = None, threading.Lock()


after_fork_in_child(_forget_parent)
