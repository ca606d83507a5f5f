"""A write-ahead durable buffer between Arrow record batches and Databricks Zerobus.

``await wrapper.send_batch(batch)`` returns when the batch is safe on the local disk; delivery to the
table goes on by itself, across lost networks, refused secrets, killed processes and power cuts.
"""

from ._core import __version__
from ._errors import (
    ArgumentTypeError,
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
    PausedError,
    PoisonedError,
    RetryExhausted,
    SourceError,
    StorageError,
    TokenRefreshError,
    TransmissionError,
    ZerobusError,
)
from ._inputs import ArrowBatchStream, ArrowRecordBatch
from ._results import (
    AdoptionReport,
    Counts,
    LaneReport,
    PauseReport,
    QuarantineReport,
    Status,
    TableReport,
    TransmissionResult,
)
from ._settings import WrapperArguments
from ._sync import SyncZerobusWrapper
from ._wrapper import ZerobusWrapper

__all__ = [
    "AdoptionReport",
    "ArgumentTypeError",
    "ArrowBatchStream",
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
    "PauseReport",
    "PausedError",
    "PoisonedError",
    "QuarantineReport",
    "RetryExhausted",
    "SourceError",
    "Status",
    "StorageError",
    "SyncZerobusWrapper",
    "TableReport",
    "TokenRefreshError",
    "TransmissionError",
    "TransmissionResult",
    "WrapperArguments",
    "ZerobusError",
    "ZerobusWrapper",
    "__version__",
]
