"""``SyncZerobusWrapper``: that it is the twin of ``ZerobusWrapper``, and where it can be used.

Goal: the same names and promises without ``await``, from any thread. Method: ``inspect`` on both classes, an
emulator, threads with and without event loops. What Ctrl-C does is in ``test_ctrl_c.py``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import inspect
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from arrow_zerobus_sdk_wrapper import (
    ArgumentTypeError,
    ClosedError,
    ConfigurationError,
    ConversionError,
    FlushTimeoutError,
    StorageError,
    SyncZerobusWrapper,
    ZerobusWrapper,
    _blocking,
)
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE, UNREACHABLE, make_batch, offline_settings, until
from test_end_to_end import landed

MakeSync = Callable[..., SyncZerobusWrapper]


@pytest.fixture
def offline_sync(tmp_path: Path) -> Iterator[MakeSync]:
    """Makes wrappers whose service cannot be reached; they never give up waiting for it."""
    made: list[SyncZerobusWrapper] = []

    def make(**settings: Any) -> SyncZerobusWrapper:
        made.append(SyncZerobusWrapper(**(offline_settings(tmp_path) | settings)))
        return made[-1]

    yield make
    for wrapper in made:
        wrapper.shutdown()


@pytest.fixture
def online_sync(emulator: Emulator, tmp_path: Path) -> Iterator[SyncZerobusWrapper]:
    """A wrapper that delivers to the local Zerobus."""
    with SyncZerobusWrapper(
        emulator.endpoint,
        TABLE,
        client_id="id",
        client_secret="s3cret",
        unity_catalog_url=emulator.unity_catalog_url,
        wal_dir=tmp_path / "wal",
        shutdown_timeout_secs=5,
    ) as wrapper:
        yield wrapper


def public(cls: type) -> dict[str, Any]:
    """The public names of a class, with the functions behind class and static methods and properties."""
    return {name: inspect.getattr_static(cls, name) for name in dir(cls) if not name.startswith("_")}


def described(function: Any) -> tuple[Any, str]:
    """Its parameters, with names, kinds, defaults and types, what it returns, and what it says of itself."""
    function = getattr(function, "__func__", function)
    text = inspect.getdoc(function)
    assert text, function
    # The only thing that is another: who ends a wait, and how.
    text = text.replace("Cancellation:\n", "Ctrl-C:\n").replace("    Cancelled while", "    Pressed while")
    return inspect.signature(function), text


def test_both_classes_have_the_same_public_names() -> None:
    assert public(SyncZerobusWrapper).keys() == public(ZerobusWrapper).keys()
    assert {"send_batch", "wait_delivered", "flush", "shutdown", "status", "update_credentials"} <= public(
        SyncZerobusWrapper
    ).keys()


@pytest.mark.parametrize("name", public(ZerobusWrapper))
def test_a_method_has_the_same_parameters_defaults_and_documentation(name: str) -> None:
    one, other = public(ZerobusWrapper)[name], public(SyncZerobusWrapper)[name]
    assert type(one) is type(other)
    assert described(other) == described(one)
    assert not inspect.iscoroutinefunction(other)


def test_the_constructors_take_the_same_arguments() -> None:
    assert inspect.signature(SyncZerobusWrapper) == inspect.signature(ZerobusWrapper)


def test_a_wrong_argument_of_the_constructor_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="wal_max_byte is not an option, did you mean wal_max_bytes"):
        SyncZerobusWrapper(UNREACHABLE, TABLE, wal_dir=tmp_path, wal_max_byte=5)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="table_name"):
        SyncZerobusWrapper(UNREACHABLE)  # type: ignore[call-arg]


def test_what_was_stored_lands_once_flushed(emulator: Emulator, online_sync: SyncZerobusWrapper) -> None:
    result = online_sync.send_batch(make_batch())
    assert (result.success, result.error, result.state, result.lsn) == (True, None, "stored", 1)
    assert (result.lsns, result.durable, result.attempts) == ((range(1, 2),), True, 0)
    assert online_sync.wait_delivered(result, timeout=60).state == "delivered"
    assert online_sync.wait_delivered(1, timeout=60).lsn == 1
    stream = online_sync.send_batch(pa.Table.from_batches([make_batch(3), make_batch(6)]))
    assert stream.lsns == (range(2, 4),)
    online_sync.flush(timeout=60)
    assert online_sync.status()["rows"]["delivered"] == 9
    delivered = online_sync.wait_delivered(stream, timeout=60)
    assert (delivered.state, delivered.lsns) == ("delivered", (range(2, 4),))
    assert landed(emulator) == make_batch(0, 9).to_pylist()


def test_new_credentials_are_used(emulator: Emulator, tmp_path: Path) -> None:
    with SyncZerobusWrapper(
        emulator.endpoint,
        TABLE,
        client_id="id",
        client_secret="wrong",
        unity_catalog_url=emulator.unity_catalog_url,
        wal_dir=tmp_path / "wal",
        shutdown_timeout_secs=0,
    ) as wrapper:
        wrapper.send_batch(make_batch())

        def is_blocked() -> bool:
            lane = wrapper.status()["lane"]
            return lane is not None and lane["state"] == "blocked"

        until(is_blocked, "the service refuses the secret")
        wrapper.update_credentials(client_secret="s3cret")
        until(lambda: wrapper.status()["frames"]["waiting"] == 0, "it is delivered")


def test_what_fails_is_raised_and_the_next_call_is_well(offline_sync: MakeSync) -> None:
    wrapper = offline_sync()
    for _ in range(2):
        with pytest.raises(ArgumentTypeError, match="got dict"):
            wrapper.send_batch({"id": [1]})  # type: ignore[arg-type]
        with pytest.raises(ConversionError, match="took"):
            wrapper.send_batch(pa.record_batch({"took": pa.array([5], pa.duration("s"))}))
        result = wrapper.send_batch(make_batch())
        with pytest.raises(FlushTimeoutError) as caught:
            wrapper.wait_delivered(result, timeout=0.05)
        assert (caught.value.lsn, caught.value.table) == (result.lsn, TABLE)
        with pytest.raises(FlushTimeoutError):
            wrapper.flush(timeout=0.05)
        with pytest.raises(ArgumentTypeError, match="timeout is a str"):
            wrapper.flush(timeout="1")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="LSN 0 does not exist"):
            wrapper.wait_delivered(0)
    assert wrapper.send_batch(make_batch()).lsn == 3


def test_after_a_shutdown_only_another_shutdown_is_allowed(offline_sync: MakeSync) -> None:
    wrapper = offline_sync()
    wrapper.shutdown()
    wrapper.shutdown()
    for call in (lambda: wrapper.send_batch(make_batch()), wrapper.flush, lambda: wrapper.wait_delivered(1)):
        with pytest.raises(ClosedError):
            call()


def test_an_error_of_the_body_is_not_hidden_by_the_shutdown(
    offline_sync: MakeSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = offline_sync()

    def failing_shutdown(self: SyncZerobusWrapper) -> None:
        raise StorageError("disk gone")

    with monkeypatch.context() as patch:
        patch.setattr(SyncZerobusWrapper, "shutdown", failing_shutdown)
        with pytest.raises(KeyError, match="body") as caught, wrapper:
            raise KeyError("body")
        assert caught.value.__notes__ == ["and the shutdown failed: disk gone"]
        with pytest.raises(StorageError, match="disk gone"), wrapper:
            pass


def test_it_shows_no_secret_and_does_not_pickle(offline_sync: MakeSync, tmp_path: Path) -> None:
    wrapper = offline_sync(
        client_id="id", client_secret="dose-of-hunter2", unity_catalog_url="http://127.0.0.1:9"
    )
    assert repr(wrapper).startswith("<SyncZerobusWrapper ")
    assert TABLE in repr(wrapper)
    assert "hunter2" not in repr(wrapper)
    with pytest.raises(TypeError, match="SyncZerobusWrapper belongs to its process"):
        pickle.dumps(wrapper)


def test_many_threads_share_a_wrapper(offline_sync: MakeSync) -> None:
    wrapper = offline_sync()

    def send(_: int) -> list[int | None]:
        return [wrapper.send_batch(make_batch()).lsn for _ in range(25)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        lsns = [lsn for sent in pool.map(send, range(8)) for lsn in sent]
    assert sorted(lsn or 0 for lsn in lsns) == list(range(1, 201))


def test_other_threads_run_while_a_call_waits(offline_sync: MakeSync) -> None:
    wrapper = offline_sync()
    result = wrapper.send_batch(make_batch())
    for wait in (lambda: wrapper.flush(timeout=0.3), lambda: wrapper.wait_delivered(result, timeout=0.3)):
        ticks, stop = [0], threading.Event()

        def tick(ticks: list[int] = ticks, stop: threading.Event = stop) -> None:
            while not stop.wait(0.001):
                ticks[0] += 1

        thread = threading.Thread(target=tick)
        thread.start()
        with pytest.raises(FlushTimeoutError):
            wait()
        stop.set()
        thread.join()
        assert ticks[0] >= 10


def test_it_can_be_used_in_a_thread_whose_loop_runs(offline_sync: MakeSync) -> None:
    wrapper = offline_sync()

    async def main() -> int | None:
        return wrapper.send_batch(make_batch()).lsn

    assert asyncio.run(main()) == 1
    with asyncio.Runner() as runner:
        assert runner.run(main()) == 2
        assert wrapper.send_batch(make_batch()).lsn == 3


def test_a_wrapper_with_await_can_be_a_plain_context_manager(emulator: Emulator, tmp_path: Path) -> None:
    with ZerobusWrapper(
        emulator.endpoint,
        TABLE,
        client_id="id",
        client_secret="s3cret",
        unity_catalog_url=emulator.unity_catalog_url,
        wal_dir=tmp_path / "wal",
    ) as wrapper:
        asyncio.run(wrapper.send_batch(make_batch()))
    # The shutdown has delivered it.
    assert landed(emulator) == make_batch().to_pylist()


def test_a_signal_handler_may_call_while_the_call_that_it_interrupts_waits(offline_sync: MakeSync) -> None:
    wrapper = offline_sync()
    result = wrapper.send_batch(make_batch())
    main = threading.get_ident()
    called: list[int | None] = []

    def handle(number: int, frame: object) -> None:
        called.append(wrapper.send_batch(make_batch()).lsn)

    def interrupt() -> None:
        for count in (1, 2, 3):
            signal.pthread_kill(main, signal.SIGUSR1)
            until(lambda count=count: len(called) == count, "the handler has called")  # type: ignore[misc]

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        thread = threading.Thread(target=interrupt)
        thread.start()
        # Long enough for the handler, which ends neither this wait nor its own call.
        with pytest.raises(FlushTimeoutError):
            wrapper.wait_delivered(result, timeout=2)
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert called == [2, 3, 4]


def test_calls_use_their_sockets_again(offline_sync: MakeSync) -> None:
    wrapper = offline_sync()
    wrapper.send_batch(make_batch())
    before = len(os.listdir("/dev/fd"))
    for _ in range(500):
        wrapper.send_batch(make_batch())
        with pytest.raises(ArgumentTypeError):
            wrapper.send_batch(5)  # type: ignore[arg-type]
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        list(pool.map(lambda _: wrapper.send_batch(make_batch()), range(300)))
    assert len(_blocking._idle) <= 64
    _blocking._idle.clear()
    gc.collect()
    assert len(os.listdir("/dev/fd")) <= before
