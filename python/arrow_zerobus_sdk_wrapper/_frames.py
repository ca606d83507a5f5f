"""Which frames a call is about, for how long it waits for them, and what it says of all of them together."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from ._errors import ArgumentTypeError, ConfigurationError, ZerobusError
from ._results import TransmissionResult

# So many runs of numbers stand in a message; the attribute has them all.
_RUNS_TOLD_MAX = 5


def checked_timeout(timeout: object) -> float | None:
    """The seconds to wait, or None for ever.

    Raises:
        ArgumentTypeError: It is not a number.
        ConfigurationError: It is negative.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise ArgumentTypeError(f"timeout is a {type(timeout).__name__}, allowed is: seconds or None")
    if math.isnan(timeout) or timeout < 0:
        allowed = "seconds that are not negative, or None"
        raise ConfigurationError(f"timeout is {timeout!r}, allowed is: {allowed}")
    # Beyond what the clock can count a wait is for ever.
    return float(timeout) if timeout < 2**32 else None


def each_frame(result_or_lsn: object, timeout: object) -> Iterator[tuple[int, float | None]]:
    """Each frame that is to be waited for, and how long it may still take.

    Raises:
        ArgumentTypeError: ``result_or_lsn`` is neither, or ``timeout`` is not a number.
        ConfigurationError: No frame has this number, or ``timeout`` is negative.
    """
    left = checked_timeout(timeout)
    runs: tuple[range, ...]
    if isinstance(result_or_lsn, TransmissionResult):
        runs = result_or_lsn.lsns
    elif isinstance(result_or_lsn, bool) or not isinstance(result_or_lsn, int):
        given = type(result_or_lsn).__name__
        raise ArgumentTypeError(f"expected a TransmissionResult or an LSN, got {given}")
    elif not 1 <= result_or_lsn < 2**64:
        raise ConfigurationError(f"LSN {result_or_lsn} does not exist, the first is 1")
    else:
        runs = (range(result_or_lsn, result_or_lsn + 1),)
    ends_at = None if left is None else time.monotonic() + left
    for run in runs:
        for lsn in run:
            yield lsn, left
            left = None if ends_at is None else max(0.0, ends_at - time.monotonic())


class Together:
    """The results of several frames as one, and what an error in their middle has to say of those before it.

    Use it as a context manager around the calls for a stream, so that no error hides what was stored.

    Args:
        source: What gives the stream, to name it in errors.
    """

    def __init__(self, source: str = "") -> None:
        self._source = source
        self._started = time.monotonic()
        self._results = 0
        self._last: TransmissionResult | None = None
        self._bytes = 0
        self._attempts = 0
        self._is_durable = True
        self._stored = 0
        self._runs: list[range] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if isinstance(exc_val, ZerobusError):
            if exc_val.lsn is not None:
                self._add_lsn(exc_val.lsn)
            exc_val.stored_lsns = tuple(self._runs)
            exc_val.args = (f"{exc_val}; {self._told()}", *exc_val.args[1:])
        elif exc_val is not None:
            may_be = "" if isinstance(exc_val, Exception) else "; it may be stored too"
            exc_val.add_note(self._told() + may_be)

    def add(self, result: TransmissionResult) -> None:
        """Adds the result of the next one."""
        self._results += 1
        self._bytes += result.batch_size_bytes
        if result.lsn is None:
            # A batch without rows says nothing of the others.
            return
        self._last = result
        self._attempts = max(self._attempts, result.attempts)
        self._is_durable = self._is_durable and result.durable
        self._add_lsn(result.lsn)

    def result(self) -> TransmissionResult:
        """What became of all of them."""
        return TransmissionResult(
            success=True,
            error=None,
            attempts=self._attempts,
            latency_ms=round((time.monotonic() - self._started) * 1000),
            batch_size_bytes=self._bytes,
            state="empty" if self._last is None else self._last.state,
            lsn=None if self._last is None else self._last.lsn,
            durable=self._is_durable,
            lsns=tuple(self._runs),
        )

    def of_what_was_waited_for(self, result_or_lsn: TransmissionResult | int) -> TransmissionResult:
        """What became of all of them: that of one as it came, and that of none as it was."""
        if self._results == 1 and self._last is not None:
            return self._last
        if self._results == 0 and isinstance(result_or_lsn, TransmissionResult):
            return result_or_lsn
        return self.result()

    def _add_lsn(self, lsn: int) -> None:
        self._stored += 1
        if self._runs and self._runs[-1].stop == lsn:
            self._runs[-1] = range(self._runs[-1].start, lsn + 1)
        else:
            self._runs.append(range(lsn, lsn + 1))

    def _told(self) -> str:
        told = f"it was batch {self._results + 1} of the stream of {self._source}, of which "
        if not self._stored:
            return told + "nothing is stored"
        runs = [_run_told(run) for run in self._runs[:_RUNS_TOLD_MAX]]
        if len(self._runs) > _RUNS_TOLD_MAX:
            runs.append("…")
        what = "1 batch is" if self._stored == 1 else f"{self._stored} batches are"
        return f"{told}{what} stored under LSN {', '.join(runs)} and must not be sent again"


def _run_told(run: range) -> str:
    return str(run.start) if len(run) == 1 else f"{run.start} to {run[-1]}"
