"""A write-ahead durable buffer between Arrow record batches and Databricks Zerobus.

``await wrapper.send_batch(batch)`` returns when the batch is safe on the local disk; delivery to the
table goes on by itself, across lost networks, refused secrets, killed processes and power cuts.
"""

from ._core import __version__
from ._errors import (
    AuthenticationError,
    BatchTooLargeError,
    BufferFullError,
    ClosedError,
    ConfigurationError,
    ConnectionError,
    ConversionError,
    CorruptionError,
    FlushTimeoutError,
    ForkedProcessError,
    LockedError,
    PoisonedError,
    RetryExhausted,
    StorageError,
    TokenRefreshError,
    TransmissionError,
    ZerobusError,
)
from ._results import (
    Counts,
    LaneReport,
    QuarantineReport,
    Status,
    TableReport,
    TransmissionResult,
)
from ._settings import WrapperArguments
from ._wrapper import ArrowRecordBatch, ZerobusWrapper

__all__ = [
    "ArrowRecordBatch",
    "AuthenticationError",
    "BatchTooLargeError",
    "BufferFullError",
    "ClosedError",
    "ConfigurationError",
    "ConnectionError",
    "ConversionError",
    "CorruptionError",
    "Counts",
    "FlushTimeoutError",
    "ForkedProcessError",
    "LaneReport",
    "LockedError",
    "PoisonedError",
    "QuarantineReport",
    "RetryExhausted",
    "Status",
    "StorageError",
    "TableReport",
    "TokenRefreshError",
    "TransmissionError",
    "TransmissionResult",
    "WrapperArguments",
    "ZerobusError",
    "ZerobusWrapper",
    "__version__",
]
