"""The exceptions, one for each row of the table of errors.

Each one carries a stable ``code``, says whether the same call can succeed later (``retryable``), and
names the frame and the table that it is about, where there is one. All of them pickle. What to do about a
code is on the page ``docs/operations/errors/<code>.md``.
"""

from __future__ import annotations

import builtins
from typing import Any, ClassVar


class ZerobusError(Exception):
    """Base of every error of this package.

    Attributes:
        code: Stable name of the kind of failure, for programs and logs.
        retryable: Whether the same call can succeed later without a change by the caller.
        lsn: Number of the frame that the error is about. When it is set, the batch is stored in the
            log and goes on being delivered, unless the message says that it was dropped or that rows of it
            are in quarantine.
        table: The table that the wrapper writes to.
        stored_lsns: The frames of a stream that are stored, though ``send_batch`` failed in its middle, in
            ascending order as runs without a gap: they go on being delivered, and their batches, the first of
            the stream, must not be sent again. Empty for anything else.

    Examples:
        Nobody listens there:

        >>> with SyncZerobusWrapper(
        ...     "http://127.0.0.1:9", "a.b.c", wal_dir=wal_dir, shutdown_timeout_secs=0
        ... ) as wrapper:
        ...     result = wrapper.send_batch(pyarrow.record_batch({"id": [1]}))
        ...     try:
        ...         wrapper.wait_delivered(result, timeout=0.1)
        ...     except ZerobusError as error:
        ...         print(error.code, error.retryable, error.lsn, error.table)
        flush_timeout True 1 a.b.c
    """

    default_code: ClassVar[str] = "internal"
    default_retryable: ClassVar[bool] = False

    code: str
    retryable: bool
    lsn: int | None
    table: str | None
    stored_lsns: tuple[range, ...]

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        retryable: bool | None = None,
        lsn: int | None = None,
        table: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = self.default_code if code is None else code
        self.retryable = self.default_retryable if retryable is None else retryable
        self.lsn = lsn
        self.table = table
        self.stored_lsns = ()


class ConfigurationError(ZerobusError, ValueError):
    """A setting is wrong. Nothing was created on disk.

    Attributes:
        setting: The name of the setting; None if it is not about one.
    """

    default_code = "configuration"

    setting: str | None = None


class AuthenticationError(ZerobusError):
    """The service or the token endpoint does not accept who we are or what we may do."""

    default_code = "authentication"


class ConnectionError(ZerobusError, builtins.ConnectionError):
    """The service cannot be reached."""

    default_code = "connection"
    default_retryable = True


class ConversionError(ZerobusError):
    """A batch cannot become protobuf. From ``send_batch``, nothing of it was stored.

    The message says what to do.

    Attributes:
        column: The column that does not fit, by its path if it is inside of others; None if it is not
            about one.
        arrow_type: Its type in the batch; None if the batch has no such column.
        delta_type: Its type in the table; None if the table has no such column, or is not known.
    """

    default_code = "conversion"

    column: str | None = None
    arrow_type: str | None = None
    delta_type: str | None = None


class TransmissionError(ZerobusError):
    """The service refuses rows, or the table; or frames were dropped because the log was full.

    Attributes:
        rows: The rows of the frame ``lsn`` that were refused for good and are in quarantine, counted from 0;
            at most the first 1,000 of them, the message says how many there are. Empty if it is about
            several frames or about no rows. The other rows of the frame are delivered.
    """

    default_code = "transmission"

    rows: list[int]

    def __init__(self, message: str = "", *, rows: list[int] | None = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.rows = [] if rows is None else rows


class RetryExhausted(ZerobusError):
    """The attempts that the caller allowed have all failed. Delivery goes on."""

    default_code = "retry_exhausted"
    default_retryable = True


class TokenRefreshError(ZerobusError):
    """The token endpoint gave no token."""

    default_code = "token_refresh"
    default_retryable = True


class FlushTimeoutError(ZerobusError, TimeoutError):
    """The time that the caller allowed for delivery is over. Delivery goes on."""

    default_code = "flush_timeout"
    default_retryable = True


class BufferFullError(ZerobusError):
    """The log is at its quota, or its disk is full, and the call was not to wait, or not any longer."""

    default_code = "buffer_full"
    default_retryable = True


class BatchTooLargeError(ZerobusError):
    """The batch is larger than a frame can be."""

    default_code = "batch_too_large"


class StorageError(ZerobusError):
    """The disk or the file system failed."""

    default_code = "storage"


class PoisonedError(ZerobusError):
    """The log refuses appends after a failed write or sync."""

    default_code = "poisoned"


class CorruptionError(ZerobusError):
    """The log on disk is damaged."""

    default_code = "corruption"


class LockedError(ZerobusError):
    """Another process owns the writer directory."""

    default_code = "locked"
    default_retryable = True


class ClosedError(ZerobusError):
    """The wrapper was shut down."""

    default_code = "closed"


class ForkedProcessError(ZerobusError):
    """The wrapper belongs to the parent process."""

    default_code = "forked"


class SourceError(ZerobusError):
    """The stream that was given to ``send_batch`` failed to give its next batch, or its schema.

    The message has what the exporter said.
    """

    default_code = "source"


class ArgumentTypeError(ZerobusError, TypeError):
    """An argument of a call is of a wrong type, such as a batch that is none. Nothing was stored."""

    default_code = "argument_type"


class PausedError(ZerobusError):
    """Somebody has paused delivery, with ``zerobus-wal pause``. What waits is stored.

    It goes on once somebody ends that, with ``zerobus-wal resume``.
    """

    default_code = "paused"
    default_retryable = True


CLASSES: dict[str, type[ZerobusError]] = {
    cls.__name__: cls
    for cls in (
        ZerobusError,
        ConfigurationError,
        AuthenticationError,
        ConnectionError,
        ConversionError,
        TransmissionError,
        RetryExhausted,
        TokenRefreshError,
        FlushTimeoutError,
        BufferFullError,
        BatchTooLargeError,
        StorageError,
        PoisonedError,
        CorruptionError,
        LockedError,
        ClosedError,
        ForkedProcessError,
        SourceError,
        ArgumentTypeError,
        PausedError,
    )
}


def make_error(
    class_name: str,
    code: str,
    message: str,
    retryable: bool,
    lsn: int | None,
    table: str | None,
    misfit: tuple[str, str | None, str | None] | None,
    rows: list[int] | None,
    setting: str | None,
) -> ZerobusError:
    """Makes the exception of a failure in ``_core``, which calls this."""
    error = CLASSES[class_name](message, code=code, retryable=retryable, lsn=lsn, table=table)
    if misfit is not None and isinstance(error, ConversionError):
        error.column, error.arrow_type, error.delta_type = misfit
    if rows is not None and isinstance(error, TransmissionError):
        error.rows = rows
    if isinstance(error, ConfigurationError):
        error.setting = setting
    return error
