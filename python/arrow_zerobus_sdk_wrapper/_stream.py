"""How the batches of an Arrow C stream are taken, one by one, and by whom.

A stream is driven by ``ctypes``, in the thread of the caller and without the GIL: to give the next batch an
exporter may compute for long and call Python. ``_core`` could do it as well, but for the end: Python ends a
daemon thread that asks for the GIL while the interpreter exits by unwinding its stack, which C's frames bear
and Rust's do not.
"""

from __future__ import annotations

import ctypes
import os
from types import TracebackType
from typing import Self

from ._errors import ArgumentTypeError, SourceError
from ._gate import gate

# The capsules point to their names.
_STREAM = b"arrow_array_stream"
_SCHEMA = b"arrow_schema"
_ARRAY = b"arrow_array"

_Release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Get = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_GetError = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)
# Functions of our own: others may set other types on those of `ctypes.pythonapi`.
_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


class _ArrowSchema(ctypes.Structure):
    _fields_ = (
        ("format", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("metadata", ctypes.c_void_p),
        ("flags", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", _Release),
        ("private_data", ctypes.c_void_p),
    )


class _ArrowArray(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.c_void_p),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", _Release),
        ("private_data", ctypes.c_void_p),
    )


class _ArrowArrayStream(ctypes.Structure):
    _fields_ = (
        ("get_schema", _Get),
        ("get_next", _Get),
        ("get_last_error", _GetError),
        ("release", _Release),
        ("private_data", ctypes.c_void_p),
    )


class BatchStream:
    """The batches of one export, as an iterator; each is good until the next is asked for.

    Use it as a context manager: leaving it releases what the exporter holds.

    Attributes:
        name: The class of what exports the stream, for errors.

    Args:
        source: What exports the stream.
        capsule: What its ``__arrow_c_stream__`` returned.

    Raises:
        ArgumentTypeError: It is not a stream of record batches, or one that was taken before.
        SourceError: The exporter gives no schema.
    """

    def __init__(self, source: object, capsule: object) -> None:
        kind = type(source)
        self.name = f"{kind.__module__}.{kind.__qualname__}"
        try:
            self._address: int = _capsule_pointer(capsule, _STREAM)
        except ValueError:
            raise self._refused(" whose __arrow_c_stream__ returns something else than a stream") from None
        # It stays in the capsule, which frees it, and is released here.
        self._capsule = capsule
        self._stream = _ArrowArrayStream.from_address(self._address)
        self._schema, self._array = _ArrowSchema(), _ArrowArray()
        if not self._stream.release:
            raise self._refused(" whose data were taken before")
        try:
            with gate:
                code = self._stream.get_schema(self._address, ctypes.addressof(self._schema))
            self._check(code)
            # A struct, which is how a record batch travels.
            if self._schema.format != b"+s":
                form = (self._schema.format or b"").decode(errors="replace")
                raise self._refused(f", a stream of arrays of the format {form!r}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamedBatch:
        with gate:
            _release(self._array)
            code = self._stream.get_next(self._address, ctypes.addressof(self._array))
        self._check(code)
        if not self._array.release:
            raise StopIteration
        return StreamedBatch(self._schema, self._array)

    def close(self) -> None:
        """Releases what the exporter holds. A batch that ``_core`` has taken is its own."""
        with gate:
            _release(self._array)
            _release(self._schema)
            _release(self._stream)

    def _check(self, code: int) -> None:
        if code == 0:
            return
        # Valid until the next call; an exporter need not have more to say than the number.
        text = self._stream.get_last_error(self._address)
        reason = text.decode(errors="replace").strip() if text else os.strerror(code)
        raise SourceError(f"the stream of {self.name} failed (errno {code}): {reason}")

    def _refused(self, why: str) -> ArgumentTypeError:
        return ArgumentTypeError(
            "expected a pyarrow.RecordBatch or another object with __arrow_c_array__ that is a record batch, "
            f"or with __arrow_c_stream__ that is a stream of them, got {self.name}{why}"
        )


class StreamedBatch:
    """A batch as the stream gave it: one with ``__arrow_c_array__``."""

    def __init__(self, schema: _ArrowSchema, array: _ArrowArray) -> None:
        self._schema, self._array = schema, array

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        """Schema and array in capsules that own nothing: they are good as long as this is."""
        return (
            _capsule(ctypes.addressof(self._schema), _SCHEMA, None),
            _capsule(ctypes.addressof(self._array), _ARRAY, None),
        )


def _release(struct: _ArrowSchema | _ArrowArray | _ArrowArrayStream) -> None:
    """Releases what is not released; the producer marks it as that."""
    if struct.release:
        struct.release(ctypes.addressof(struct))
