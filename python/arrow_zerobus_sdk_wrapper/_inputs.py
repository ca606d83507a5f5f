"""What may be given as a batch, and what of it goes to ``_core``.

Whatever exports Arrow data over the C data interface may be given; no library is needed for that. An export
is always made here, so that ``_core`` need not call back into Python: an exporter may let go of the GIL, and
Python ends a daemon thread that asks for it back while the interpreter exits. A thread cannot be ended that
way inside of ``_core``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol, TypeGuard

if TYPE_CHECKING:
    from ._stream import BatchStream


class ArrowRecordBatch(Protocol):
    """Whatever exports a record batch over the Arrow C data interface.

    ``pyarrow.RecordBatch``, ``arro3.core.RecordBatch``, a struct array of ``nanoarrow`` and others do.
    """

    @abstractmethod
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        """Schema and array as PyCapsules."""


class ArrowBatchStream(Protocol):
    """Whatever exports a stream of record batches over the Arrow C stream interface.

    ``pyarrow.Table`` and ``pyarrow.RecordBatchReader``, ``polars.DataFrame``, ``pandas.DataFrame``, the
    relations of ``duckdb``, ``arro3.core.Table`` and others do.
    """

    @abstractmethod
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The stream as a PyCapsule."""


def _is_pair(capsules: object) -> TypeGuard[tuple[object, object]]:
    return isinstance(capsules, tuple)


def exported(given: object) -> tuple[object, object] | BatchStream | None:
    """The export of what was given as a batch; None if it has none, which ``_core`` refuses by name.

    What exports both an array and a stream is one batch, unless it says that it cannot be.

    Raises:
        ArgumentTypeError: It exports a stream of something else than record batches.
        Exception: Whatever the exporter raises.
    """
    if isinstance(given, type):
        return None
    export_array = getattr(given, "__arrow_c_array__", None)
    if export_array is not None:
        try:
            capsules: object = export_array()
        except Exception:
            # Such as an array of several chunks.
            if not hasattr(given, "__arrow_c_stream__"):
                raise
        else:
            # The protocol promises two capsules; `_core` refuses anything else.
            return capsules if _is_pair(capsules) else (capsules, None)
    export_stream = getattr(given, "__arrow_c_stream__", None)
    if export_stream is None:
        return None
    # Only streams need ctypes.
    from ._stream import BatchStream

    return BatchStream(given, export_stream())
