"""Whatever the wrapper raises: a ``ZerobusError``, also what Python calls it, complete, and without a secret.

Goal: one ``except ZerobusError`` is enough. Method: every way to go wrong that a caller has, with both
classes.
"""

from __future__ import annotations

import asyncio
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper, ZerobusError, ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE, UNREACHABLE, make_batch

SECRET = "dose-of-hunter2"


def failing() -> pa.RecordBatchReader:
    """A stream that breaks after its first batch."""

    def batches() -> Any:
        yield make_batch()
        raise KeyError("gone")

    return pa.RecordBatchReader.from_batches(make_batch().schema, batches())


# What is called, its code, whether it is retryable, its LSN, and what else it is.
WAYS: dict[str, tuple[Callable[[Any], Any], str, bool, int | None, type[Exception]]] = {
    "no batch": (lambda w: w.send_batch({"id": [1]}), "argument_type", False, None, TypeError),
    "no array": (lambda w: w.send_batch(pa.array([1])), "argument_type", False, None, TypeError),
    "no stream": (lambda w: w.send_batch(pa.chunked_array([[1]])), "argument_type", False, None, TypeError),
    "type": (
        lambda w: w.send_batch(pa.record_batch({"took": pa.array([1], pa.duration("s"))})),
        "conversion",
        False,
        None,
        ZerobusError,
    ),
    "source": (lambda w: w.send_batch(failing()), "source", False, None, ZerobusError),
    "size": (lambda w: w.send_batch(make_batch(rows=200_000)), "batch_too_large", False, None, ZerobusError),
    "wait": (lambda w: w.wait_delivered(1, timeout=0), "flush_timeout", True, 1, TimeoutError),
    "flush": (lambda w: w.flush(timeout=0), "flush_timeout", True, None, TimeoutError),
    "no such frame": (lambda w: w.wait_delivered(10**6), "configuration", False, None, ValueError),
    "no LSN": (lambda w: w.wait_delivered(0), "configuration", False, None, ValueError),
    "LSN of text": (lambda w: w.wait_delivered("1"), "argument_type", False, None, TypeError),
    "timeout": (lambda w: w.flush(timeout=-1), "configuration", False, None, ValueError),
    "timeout of text": (lambda w: w.flush(timeout="1"), "argument_type", False, None, TypeError),
    "blank secret": (
        lambda w: w.update_credentials(client_secret=" "),
        "configuration",
        False,
        None,
        ValueError,
    ),
    "bytes as secret": (
        lambda w: w.update_credentials(client_secret=SECRET.encode()),
        "configuration",
        False,
        None,
        ValueError,
    ),
}


def texts(error: BaseException) -> str:
    """Everything that is shown of an exception."""
    shown = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
    return "".join(shown) + repr(pickle.dumps(error))


@pytest.mark.parametrize("cls", [ZerobusWrapper, SyncZerobusWrapper])
def test_whatever_is_raised_is_a_zerobus_error_with_everything(tmp_path: Path, cls: Any) -> None:
    def make(wal_dir: Path, attempts: int) -> Any:
        return cls(
            UNREACHABLE,
            TABLE,
            client_id="id",
            client_secret=SECRET,
            unity_catalog_url="http://127.0.0.1:9",
            wal_dir=wal_dir,
            segment_bytes=2**20,
            retry_max_attempts=attempts,
            shutdown_timeout_secs=0,
        )

    wrapper = make(tmp_path / "one", 2**32 - 1)

    async def awaited(call: Callable[[Any], Any]) -> Any:
        outcome = call(wrapper)
        return await outcome if asyncio.iscoroutine(outcome) else outcome

    def check(call: Callable[[Any], Any], code: str, retryable: bool, lsn: int | None, also: type) -> None:
        with pytest.raises(ZerobusError) as caught:
            asyncio.run(awaited(call))
        error = caught.value
        assert (error.code, error.retryable, error.lsn) == (code, retryable, lsn)
        assert isinstance(error, also)
        assert SECRET not in texts(error)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
        assert error.table in (TABLE, None)

    asyncio.run(awaited(lambda w: w.send_batch(make_batch())))
    for way in WAYS.values():
        check(*way)
    assert SECRET not in repr(wrapper) + str(wrapper.status())
    asyncio.run(awaited(lambda w: w.shutdown()))
    check(lambda w: w.send_batch(make_batch()), "closed", False, None, ZerobusError)
    check(lambda w: w.flush(), "closed", False, None, ZerobusError)
    wrapper = make(tmp_path / "other", 1)
    asyncio.run(awaited(lambda w: w.send_batch(make_batch())))
    check(lambda w: w.flush(), "retry_exhausted", True, None, ZerobusError)
    asyncio.run(awaited(lambda w: w.shutdown()))


@pytest.mark.parametrize("cls", [ZerobusWrapper, SyncZerobusWrapper])
def test_whatever_a_constructor_raises_is_a_zerobus_error(tmp_path: Path, cls: Any) -> None:
    good: dict[str, Any] = {"endpoint": UNREACHABLE, "table_name": TABLE, "wal_dir": tmp_path}
    holder = cls(**good, shutdown_timeout_secs=0)
    wrong: list[tuple[dict[str, Any], str, type[Exception]]] = [
        ({"table_name": 5}, "configuration", ValueError),
        ({"colour": "red"}, "configuration", ValueError),
        ({"client_id": "id", "client_secret": SECRET.encode()}, "configuration", ValueError),
        ({"client_secret": SECRET}, "configuration", ValueError),
        ({"exclusive": True}, "locked", ZerobusError),
    ]
    for settings, code, also in wrong:
        with pytest.raises(ZerobusError) as caught:
            cls(**(good | settings))
        assert isinstance(caught.value, also)
        assert caught.value.code == code
        assert SECRET not in texts(caught.value)
    with holder:
        pass


def test_no_text_of_a_refused_secret_shows_it(emulator: Emulator, tmp_path: Path) -> None:
    with SyncZerobusWrapper(
        emulator.endpoint,
        TABLE,
        client_id="id",
        client_secret=SECRET,
        unity_catalog_url=emulator.unity_catalog_url,
        wal_dir=tmp_path / "wal",
        retry_max_delay_ms=200,
        shutdown_timeout_secs=0,
    ) as wrapper:
        result = wrapper.send_batch(make_batch())
        for call in (wrapper.flush, lambda: wrapper.wait_delivered(result)):
            with pytest.raises(ZerobusError) as caught:
                call()
            assert caught.value.code == "authentication"
            assert SECRET not in texts(caught.value)
        assert SECRET not in repr(wrapper) + str(wrapper.status())
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
