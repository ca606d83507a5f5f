"""Calling code that must type-check, as ``test_typing.py`` sees. It is never run."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Literal, assert_type

import arro3.core
import polars

from arrow_zerobus_sdk_wrapper import (
    ArrowBatchStream,
    ArrowRecordBatch,
    ConfigurationError,
    ConnectionError,
    ConversionError,
    FlushTimeoutError,
    Status,
    SyncZerobusWrapper,
    TransmissionError,
    TransmissionResult,
    ZerobusError,
    ZerobusWrapper,
)
from arrow_zerobus_sdk_wrapper.emulator import Emulator


class OwnBatch:
    """A batch of the program's own."""

    def __init__(self, batch: arro3.core.RecordBatch) -> None:
        self.batch = batch

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        return self.batch.__arrow_c_array__(requested_schema)


def either(batch: arro3.core.RecordBatch, is_stream: bool) -> ArrowRecordBatch | ArrowBatchStream:
    """What a function may return that makes batches."""
    return polars.DataFrame() if is_stream else OwnBatch(batch)


async def with_await(batch: arro3.core.RecordBatch, table: arro3.core.Table) -> None:
    """The asyncio face."""
    async with ZerobusWrapper(
        "https://host",
        "a.b.c",
        client_id="id",
        client_secret="secret",
        unity_catalog_url="https://workspace",
        wal_dir=Path("wal"),
        durability="interval",
        on_full="reject",
        block_timeout_secs=1.5,
        compression=None,
    ) as wrapper:
        assert_type(wrapper, ZerobusWrapper)
        result = await wrapper.send_batch(batch)
        assert_type(result, TransmissionResult)
        assert_type(result.state, Literal["stored", "delivered", "empty"])
        assert_type(result.lsn, int | None)
        assert_type(result.lsns, tuple[range, ...])
        for given in (table, OwnBatch(batch), polars.DataFrame(), either(batch, True)):
            await wrapper.send_batch(given)
        assert_type(await wrapper.wait_delivered(result, timeout=1), TransmissionResult)
        await wrapper.wait_delivered(7)
        assert_type(await wrapper.flush(timeout=0.5), None)
        wrapper.update_credentials(client_secret="new")
        await asyncio.gather(wrapper.send_batch(batch), wrapper.flush())
    await wrapper.shutdown()


def without_await(batch: arro3.core.RecordBatch) -> int:
    """The other face takes the same arguments."""
    with SyncZerobusWrapper("https://host", table_name="a.b.c", validate="off") as wrapper:
        assert_type(wrapper, SyncZerobusWrapper)
        result = wrapper.send_batch(batch)
        assert_type(result, TransmissionResult)
        assert_type(wrapper.wait_delivered(result), TransmissionResult)
        send: Callable[[ArrowRecordBatch], TransmissionResult] = wrapper.send_batch
        send(OwnBatch(batch))
        wrapper.flush()
        status = wrapper.status()
        assert_type(status, Status)
        lane = status["lane"]
        return 0 if lane is None else lane["failures"]


def errors(call: Callable[[], None]) -> tuple[str, bool, int | None, str | None]:
    """What an exception carries, and what else it is."""
    try:
        call()
    except TransmissionError as error:
        assert_type(error.rows, list[int])
    except ConversionError as error:
        assert_type(error.column, str | None)
    except FlushTimeoutError as error:
        timeout: TimeoutError = error
        raise timeout from None
    except ConfigurationError as error:
        value: ValueError = error
        raise value from None
    except ConnectionError as error:
        connection: builtins.ConnectionError = error
        raise connection from None
    except ZerobusError as error:
        assert_type(error.stored_lsns, tuple[range, ...])
        return error.code, error.retryable, error.lsn, error.table
    return "", False, None, None


def local() -> str:
    """The emulator."""
    with Emulator(tables={"a.b.c": "id BIGINT"}) as emulator:
        return emulator.endpoint
