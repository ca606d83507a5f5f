"""What goes to ``_core`` of the batches of one wrapper, one after the other.

pyarrow exports the schema with every batch, which takes longer than a batch of a few rows itself. So of a
batch that has the schema of the one before only the array is exported, by the function that pyarrow has
for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from . import _core
from ._inputs import exported

if TYPE_CHECKING:
    from ._stream import BatchStream


class _Newest(NamedTuple):
    """What was exported last of pyarrow with its schema: class, schema, and the schema as a capsule."""

    batch_class: type
    schema: Any
    capsule: object


class Exports:
    """The exports of one wrapper."""

    def __init__(self) -> None:
        self._newest: _Newest | None = None

    def of(self, given: object) -> tuple[object, object] | BatchStream | None:
        """As ``exported``, in less time for batches of pyarrow that have the schema of the one before."""
        newest = self._newest
        if newest is not None and type(given) is newest.batch_class:
            batch: Any = given
            if batch.schema.equals(newest.schema, check_metadata=True):
                array = _core.ExportedArray()
                batch._export_to_c(array.address)
                return newest.capsule, array
        export = exported(given)
        if isinstance(export, tuple) and _is_of_pyarrow(type(given)):
            self._newest = _Newest(type(given), cast(Any, given).schema, export[0])
        return export


def _is_of_pyarrow(batch_class: type) -> bool:
    """Whether it is the record batch of pyarrow, and one that can be exported without its schema."""
    named = (batch_class.__module__, batch_class.__name__) == ("pyarrow.lib", "RecordBatch")
    return named and hasattr(batch_class, "_export_to_c")
