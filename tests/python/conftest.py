"""What the tests share: a wrapper whose service is out of reach, and a local Zerobus."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import uvloop

from arrow_zerobus_sdk_wrapper import ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what is to run in the background, and tests interrupt themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing listens on the discard port; without TLS no credentials are needed.
UNREACHABLE = "http://127.0.0.1:9"
TABLE = "main.default.events"
COLUMNS = "id BIGINT, name STRING"
DEADLINE_SECS = 60.0
# How a program of a test is run. From 3.12 on Python warns when a process with threads forks, as pyarrow has.
PYTHON = (sys.executable, "-X", "faulthandler", "-W", "ignore:This process:DeprecationWarning")

MakeWrapper = Callable[..., ZerobusWrapper]


def make_batch(first: int = 0, rows: int = 3) -> pa.RecordBatch:
    """A batch of the test table."""
    ids = range(first, first + rows)
    return pa.record_batch(
        {"id": pa.array(ids, pa.int64()), "name": pa.array([f"name {i}" for i in ids], pa.string())}
    )


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition, with a deadline."""
    deadline = time.monotonic() + DEADLINE_SECS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_SECS} s"
        time.sleep(0.01)


def offline_settings(directory: Path) -> dict[str, Any]:
    """What a wrapper is made with whose service cannot be reached, and that never gives up waiting for it."""
    return {
        "endpoint": UNREACHABLE,
        "table_name": TABLE,
        "wal_dir": directory / "wal",
        "retry_max_attempts": 2**32 - 1,
        "shutdown_timeout_secs": 0,
    }


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[MakeWrapper]:
    """Makes wrappers whose service cannot be reached; they never give up waiting for it."""
    made: list[ZerobusWrapper] = []

    def make(**settings: Any) -> ZerobusWrapper:
        made.append(ZerobusWrapper(**(offline_settings(tmp_path) | settings)))
        return made[-1]

    yield make
    for wrapper in made:
        with contextlib.ExitStack() as stack:
            stack.enter_context(wrapper)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """``asyncio.run`` on each kind of event loop."""

    def run(coroutine: Any) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(coroutine)

    return run


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """A local Zerobus with the test table."""
    with Emulator(
        data_dir=tmp_path / "tables",
        tables={TABLE: COLUMNS},
        client_id="id",
        client_secret="s3cret",
    ) as running:
        yield running


@pytest.fixture
def online(emulator: Emulator, tmp_path: Path) -> Iterator[MakeWrapper]:
    """Makes wrappers that deliver to the local Zerobus."""
    made: list[ZerobusWrapper] = []

    def make(**settings: Any) -> ZerobusWrapper:
        defaults: dict[str, Any] = {
            "endpoint": emulator.endpoint,
            "table_name": TABLE,
            "client_id": "id",
            "client_secret": "s3cret",
            "unity_catalog_url": emulator.unity_catalog_url,
            "wal_dir": tmp_path / "wal",
            "retry_max_delay_ms": 200,
            "shutdown_timeout_secs": 5,
        }
        made.append(ZerobusWrapper(**(defaults | settings)))
        return made[-1]

    yield make
    for wrapper in made:
        with wrapper:
            pass
