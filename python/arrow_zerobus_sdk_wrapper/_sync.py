"""``SyncZerobusWrapper``: the face of the log and its drainer for programs without an event loop."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Concatenate, NoReturn, ParamSpec, Self, Unpack, cast

from . import _blocking, _display
from ._frames import Together, checked_timeout, each_frame
from ._inputs import ArrowBatchStream, ArrowRecordBatch
from ._results import Status, TransmissionResult
from ._settings import WrapperArguments, open_with
from ._wrapper import ZerobusWrapper, keep

_P = ParamSpec("_P")


def _with_arguments_of(
    init: Callable[Concatenate[ZerobusWrapper, _P], None],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, _P], None]]:
    """Gives an ``__init__`` that passes its arguments on the signature of the one that takes them."""

    def give(passing: Callable[..., None]) -> Callable[Concatenate[Any, _P], None]:
        return functools.wraps(init, assigned=("__doc__",))(passing)

    return give


class SyncZerobusWrapper:
    """``ZerobusWrapper`` without ``await``: a durable buffer before one Databricks Zerobus table.

    ``send_batch(batch)`` returns when the batch is safe on the local disk. A background drainer delivers it,
    for as long as that takes, also for a later process with the same ``wal_dir``.

    All methods may be called from any thread, and by many at the same time: each releases the GIL while it
    waits. In a thread that runs an event loop they hold up that loop; use ``ZerobusWrapper`` there. Ctrl-C,
    or whatever else a signal handler raises, ends any wait within 100 ms, and the wrapper can be used
    afterwards. A ``with`` block that it leaves is shut down first, as any other, for at most
    ``shutdown_timeout_secs``; a second Ctrl-C ends that wait too. A wrapper belongs to the process that made
    it, as a ``ZerobusWrapper`` does.

    Args and errors of the constructor are those of ``ZerobusWrapper``.

    Examples:
        With a local Zerobus, an ``Emulator``, and a table that is sent batch by batch:

        >>> with SyncZerobusWrapper(
        ...     emulator.endpoint,
        ...     "main.default.events",
        ...     client_id="id",
        ...     client_secret="s3cret",
        ...     unity_catalog_url=emulator.unity_catalog_url,
        ...     wal_dir=wal_dir,
        ... ) as wrapper:
        ...     table = pyarrow.table({"id": pyarrow.chunked_array([[1, 2], [3]])})
        ...     result = wrapper.send_batch(table)
        ...     print(result.state, result.lsns)
        ...     print(wrapper.wait_delivered(result, timeout=30).state)
        stored (range(1, 3),)
        delivered
    """

    __slots__ = ("__weakref__", "_wrapper")

    @_with_arguments_of(ZerobusWrapper.__init__)
    def __init__(self, *args: object, **kwargs: object) -> None:
        self._wrapper = cast(Callable[..., ZerobusWrapper], ZerobusWrapper)(*args, **kwargs)

    @classmethod
    def from_env(cls, **arguments: Unpack[WrapperArguments]) -> Self:
        """Makes a wrapper of what the environment says.

        A variable is ``ARROW_ZEROBUS_`` and the name of an argument in capitals. Also read are
        ``ZEROBUS_ENDPOINT``, ``ZEROBUS_TABLE_NAME``, ``ZEROBUS_CLIENT_ID``, ``ZEROBUS_CLIENT_SECRET`` and
        ``UNITY_CATALOG_URL``. One that is empty counts as not set. Sizes and times may have units, such as
        ``64MiB`` and ``250ms``; ``docs/settings.md`` has the rest.

        Args:
            **arguments: Arguments of the constructor. They count before the environment.

        Raises:
            ConfigurationError: A variable or an argument is wrong, or one is missing; it is named, with its
                value and what is allowed. Nothing was created on disk.
            LockedError: Another process owns the writer directory; it is named.
            StorageError: The log cannot be opened or created.
        """
        return open_with(cls, arguments)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **arguments: Unpack[WrapperArguments]) -> Self:
        """Makes a wrapper of what a file says, and the environment, which counts before the file.

        The keys are the names of the constructor's arguments. Relative paths in the file start from its
        directory.

        Args:
            path: A TOML or YAML file: ``.toml``, ``.yaml`` or ``.yml``.
            **arguments: Arguments of the constructor. They count before both.

        Raises:
            ConfigurationError: The file cannot be read, or a key of it, a variable or an argument is wrong,
                or one is missing; it is named, with its value and what is allowed. Nothing was created on
                disk.
            LockedError: Another process owns the writer directory; it is named.
            StorageError: The log cannot be opened or created.
        """
        return open_with(cls, arguments, path)

    def send_batch(self, batch: ArrowRecordBatch | ArrowBatchStream) -> TransmissionResult:
        """Stores a record batch, and with ``wait_for="delivered"`` waits for its acknowledgement.

        The buffers of the batch are read while the call is under way; do not change them before it has
        returned. Calls that are under way at the same time are stored in any order; make one after the other
        to have an order.

        A stream is stored batch by batch, in its order: the next batch is asked for when the one before is
        stored, or acknowledged with ``wait_for="delivered"``, so that there is one in memory, however many
        there are. It is asked for in the thread of this call: what the stream does for it holds up whatever
        else this thread has to do, and Ctrl-C. Each batch is a frame with a sync of its own; small ones are
        better put together before.

        Columns are matched with those of the table by name, in any order; nullable ones may be missing. What
        the service cannot hold exactly has a policy, ``timestamp_ns`` and ``null_list``. A value that the
        table's column cannot hold, such as a number out of its range, is found at delivery: its row is put
        into quarantine with the reason, and the other rows are delivered.

        Args:
            batch: ``pyarrow.RecordBatch`` or another object with ``__arrow_c_array__``; or a stream of record
                batches, an object with ``__arrow_c_stream__`` such as ``pyarrow.Table``,
                ``pyarrow.RecordBatchReader``, ``polars.DataFrame``, ``pandas.DataFrame`` or a relation of
                ``duckdb``. A batch without rows is a success that stores nothing. The schema may differ from
                the last.

        Returns:
            What became of the batch, with its ``lsn``; of all batches of a stream, with their ``lsns``.

        Raises:
            ArgumentTypeError: ``batch`` is neither a record batch nor a stream of them.
            SourceError: The stream failed to give a batch.
            ConversionError: The schema of the batch does not fit the table, or any table if nothing is known
                of ours; the error names the column, its types and what to do. Or it has values that are not
                valid Arrow. Nothing was stored. The catalog was asked again before, which may take seconds: a
                table that has got the column meanwhile is no reason.
            BatchTooLargeError: The batch does not fit into a segment, and so not into the quota. Nothing was
                stored; the sizes and the setting are named.
            BufferFullError: The log is at its quota, or the disk at its floor, and ``on_full`` does not let
                the call wait, or not any longer. Nothing was stored; later it can be.
            StorageError: The disk refused the write.
            PoisonedError: An earlier write or sync failed; the log takes no more.
            RetryExhausted: Only with ``wait_for="delivered"``: the attempts failed. The batch is
                stored under ``lsn`` and goes on being tried.
            TransmissionError: Only with ``wait_for="delivered"``: ``rows`` of it were refused for good and
                are in quarantine, the others are delivered; or the service refuses the batch, which is
                stored under ``lsn``; or it was dropped, which ``on_full="drop_oldest"`` allows, and says so.
            ClosedError: The wrapper was shut down.

        An error in the middle of a stream has ``stored_lsns``, the frames that are stored and must not be
        sent again, and its message, or a note of an exception that is not ours, says how many they are.

        Ctrl-C:
            Pressed while it waits for room in the log, nothing was stored; later, the batch may be
            stored and then is delivered. An append that was started is always finished. What was stored of a
            stream before is said in a note of the exception.
        """
        wrapper = self._wrapper
        given = wrapper._exports.of(batch)
        if given is not None and not isinstance(given, tuple):
            with given as batches, Together(given.name) as sent:
                for one in batches:
                    sent.add(self.send_batch(one))
                return sent.result()
        return _blocking.send(wrapper._core, batch, given, wrapper._traceparent())

    def wait_delivered(
        self, result_or_lsn: TransmissionResult | int, timeout: float | None = None
    ) -> TransmissionResult:
        """Waits until a stored batch is delivered, or all batches of a stream, one after the other.

        Args:
            result_or_lsn: What ``send_batch`` returned, or an LSN.
            timeout: Longest wait in seconds; None waits for ever.

        Returns:
            The result with ``state="delivered"``; that of an empty batch as it is.

        Raises:
            ArgumentTypeError: ``result_or_lsn`` is neither, or ``timeout`` is not a number.
            ConfigurationError: No frame has this number, or ``timeout`` is negative.
            FlushTimeoutError: The time is over. Delivery goes on.
            PausedError: Somebody has paused delivery (``zerobus-wal pause``).
            RetryExhausted: ``retry_max_attempts`` attempts in a row have failed. Delivery goes on.
            TransmissionError: ``rows`` of it were refused for good and are in quarantine, the others are
                delivered; or the service refuses the table; or the batch was dropped, which
                ``on_full="drop_oldest"`` allows, and is not delivered.
            ClosedError: The wrapper was shut down.

        The frame is the error's ``lsn``; those of a stream behind it were not waited for.

        Ctrl-C:
            Ends the wait and nothing else.
        """
        waited = Together()
        for lsn, left in each_frame(result_or_lsn, timeout):
            start = functools.partial(self._wrapper._core.wait_delivered, lsn, left)
            waited.add(cast(TransmissionResult, _blocking.run_job(start)))
        return waited.of_what_was_waited_for(result_or_lsn)

    def flush(self, timeout: float | None = None) -> None:
        """Waits until every batch that was stored before the call is delivered, or in quarantine.

        Args:
            timeout: Longest wait in seconds; None waits until delivery succeeds or the attempts of
                ``retry_max_attempts`` have failed.

        Raises:
            ArgumentTypeError: ``timeout`` is not a number.
            ConfigurationError: ``timeout`` is negative.
            FlushTimeoutError: The time is over.
            PausedError: Somebody has paused delivery (``zerobus-wal pause``).
            RetryExhausted: ``retry_max_attempts`` attempts in a row have failed since the call.
            AuthenticationError: The service refuses us; it is asked again.
            TransmissionError: The service refuses the table; or rows were put into quarantine since the last
                ``flush``, or frames were dropped, which ``on_full="drop_oldest"`` allows. How many and where
                is said once; everything else is delivered.
            ClosedError: The wrapper was shut down.

        Whatever else is raised, nothing is lost and delivery goes on.

        Ctrl-C:
            Ends the wait and nothing else.
        """
        _blocking.run_job(functools.partial(self._wrapper._core.flush, checked_timeout(timeout)))

    def shutdown(self) -> None:
        """Stops intake, delivers for at most ``shutdown_timeout_secs``, closes the log.

        What is left stays in the log for the next start and is no error. A second call does nothing;
        any other call afterwards raises ``ClosedError``.

        Raises:
            StorageError: The log could not be closed cleanly. Nothing is lost.

        Ctrl-C:
            Ends the wait; the shutdown goes on.
        """
        _blocking.shut_down(self._wrapper._core)

    def update_credentials(self, *, client_secret: str, client_id: str | None = None) -> None:
        """Lets streams and the catalog use these credentials from now on.

        Delivery that is parked or waits tries again at once. Nothing is stored: the next start needs them
        too. A secret that is given here counts instead of the one in ``client_secret_file``.

        Args:
            client_secret: OAuth client secret. It is never shown, logged or stored.
            client_id: OAuth client id; None leaves it as it is.

        Raises:
            ConfigurationError: They are blank or no text, or the wrapper was made without credentials.
                Nothing was changed.
            ClosedError: The wrapper was shut down.
            ForkedProcessError: The wrapper belongs to the parent process.
        """
        self._wrapper.update_credentials(client_secret=client_secret, client_id=client_id)

    def status(self) -> Status:
        """Where the log and the delivery stand now. Reads no network.

        Raises:
            ForkedProcessError: The wrapper belongs to the parent process.
        """
        return self._wrapper.status()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Shuts down and blocks until it is done; Ctrl-C ends the wait."""
        try:
            self.shutdown()
        except Exception as error:
            keep(exc_val, error)

    def __repr__(self) -> str:
        return repr(self._wrapper).replace("ZerobusWrapper", "SyncZerobusWrapper", 1)

    def _repr_html_(self) -> str:
        """The status, for notebooks."""
        return _display.table(type(self).__name__, self.status)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SyncZerobusWrapper belongs to its process and cannot be pickled")
