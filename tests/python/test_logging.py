"""The core's log in Python's ``logging``: what arrives, and that it never holds anything up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arrow_zerobus_sdk_wrapper import ZerobusWrapper, _core, _logging
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import DEADLINE_SECS, PYTHON, TABLE, UNREACHABLE, MakeWrapper, make_batch, until

PACKAGE = "arrow_zerobus_sdk_wrapper"
# The queue of the core, `RECORDS_MAX`.
QUEUE_RECORDS = 1000
# How often processes that log under load are run; 200 for the long run.
PROCESSES = int(os.environ.get("LOGGING_PROCESSES", "12"))


class Collector(logging.Handler):
    """Keeps records, and can be made to block or to raise."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_blocked = threading.Event()
        self.raises: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if not self.may_go_on.is_set():
            self.is_blocked.set()
            self.may_go_on.wait(DEADLINE_SECS)
        self.records.append(record)
        if self.raises is not None:
            raise self.raises

    def said(self, text: str) -> list[logging.LogRecord]:
        return [record for record in self.records if text in record.getMessage()]


@contextlib.contextmanager
def level(name: str, wanted: int) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(wanted)
    try:
        yield
    finally:
        logger.setLevel(before)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Collects what the package logs, from INFO on."""
    handler = Collector()
    logger = logging.getLogger(PACKAGE)
    logger.addHandler(handler)
    with level(PACKAGE, logging.INFO):
        yield handler
    handler.may_go_on.set()
    logger.removeHandler(handler)


@pytest.fixture
def warn(tmp_path: Path) -> Any:
    """Lets the core warn, at once: of a file of settings whose secret everybody can read."""
    path = tmp_path / "public.toml"
    path.write_text('client_secret = "s3cret"\n')
    path.chmod(0o644)
    variables = {"ZEROBUS_ENDPOINT": UNREACHABLE, "ZEROBUS_TABLE_NAME": TABLE}

    def warn(times: int = 1) -> None:
        for _ in range(times):
            _core.resolve_settings(variables, str(path), [])

    return warn


def test_a_failed_connection_arrives_as_a_record(offline: MakeWrapper, collector: Collector) -> None:
    async def main() -> None:
        await offline().send_batch(make_batch())

    asyncio.run(main())
    until(lambda: bool(collector.said("delivery failed")), "the record")
    record = collector.said("delivery failed")[0]
    assert (record.name, record.levelno, record.levelname) == (f"{PACKAGE}.drain", logging.INFO, "INFO")
    assert record.pathname.endswith("src/drain/failing.rs")
    assert record.lineno > 0
    fields = record.__dict__["fields"]
    assert fields["state"] == "backing_off"
    assert isinstance(fields["retry_ms"], int)
    assert record.getMessage().startswith(
        f"delivery failed: state=backing_off, retry_ms={fields['retry_ms']}, "
    )
    assert fields["reason"] in record.getMessage()
    assert abs(record.created - time.time()) < DEADLINE_SECS


def test_a_damaged_ledger_arrives_as_an_error(tmp_path: Path, collector: Collector) -> None:
    def make() -> ZerobusWrapper:
        return ZerobusWrapper(UNREACHABLE, TABLE, wal_dir=tmp_path, shutdown_timeout_secs=0)

    with make():
        pass
    (ledger,) = tmp_path.glob("*/writer-001/ledger")
    for file in ledger.rglob("*"):
        if file.is_file():
            file.write_bytes(b"\xff" * 100)
    with make():
        until(lambda: bool(collector.said("the ledger is damaged")), "the record")
    record = collector.said("the ledger is damaged")[0]
    assert (record.name, record.levelname) == (f"{PACKAGE}.wrapper", "ERROR")
    assert str(ledger.parent) in record.__dict__["fields"]["damage"]
    assert record.__dict__["fields"]["damage"] in record.getMessage()


def test_a_secret_that_is_refused_is_in_no_record(
    emulator: Emulator, online: MakeWrapper, collector: Collector
) -> None:
    async def main() -> None:
        wrapper = online(client_secret="wr0ng-s3cret", shutdown_timeout_secs=0)
        await wrapper.send_batch(make_batch())

    with level(PACKAGE, 5):
        asyncio.run(main())
        until(lambda: bool(collector.said("delivery is parked")), "the record")
    assert collector.said("delivery is parked")[0].levelno == logging.WARNING
    for record in collector.records:
        assert "wr0ng-s3cret" not in record.getMessage() + repr(record.__dict__)


def test_what_nobody_wants_is_not_even_queued(offline: MakeWrapper, collector: Collector, warn: Any) -> None:
    offline()
    collector.may_go_on.clear()
    warn()
    until(collector.is_blocked.is_set, "the handler")
    # The thread is busy: nobody else takes anything.
    while json.loads(_core.take_log(100))["records"]:
        pass
    _core.set_log_level(logging.ERROR)
    warn(3)
    assert json.loads(_core.take_log(100))["records"] == []
    _core.set_log_level(logging.WARNING)
    warn(3)
    assert [record["level"] for record in json.loads(_core.take_log(100))["records"]] == [logging.WARNING] * 3


def test_a_change_of_levels_is_noticed_in_every_area(
    offline: MakeWrapper, collector: Collector, warn: Any
) -> None:
    offline()
    wanted: list[int] = []
    with level(PACKAGE, logging.CRITICAL):
        # Above them all: the core is told that nothing is wanted, and queues nothing.
        until(lambda: _logging._least_wanted() > logging.ERROR, "the change")
        with level(f"{PACKAGE}.config", logging.WARNING):
            wanted.append(_logging._least_wanted())
            until(lambda: bool((warn(), collector.said("everybody"))[1]), "the level of one area")
    assert wanted == [logging.WARNING]


def test_a_handler_that_blocks_holds_up_no_sender_and_the_queue_tells_what_it_did_not_keep(
    offline: MakeWrapper, collector: Collector, warn: Any
) -> None:
    async def main() -> None:
        wrapper = offline()
        warn()
        until(lambda: bool(collector.said("everybody")), "the first record")
        collector.may_go_on.clear()
        warn()
        until(collector.is_blocked.is_set, "the handler")
        warn(2 * QUEUE_RECORDS)
        async with asyncio.timeout(DEADLINE_SECS):
            for _ in range(20):
                assert (await wrapper.send_batch(make_batch())).state == "stored"
        assert wrapper.status()["rows"]["stored"] == 60

    asyncio.run(main())
    collector.may_go_on.set()
    until(lambda: bool(collector.said("were not kept")), "the count")
    record = collector.said("were not kept")[0]
    assert (record.name, record.levelno) == (PACKAGE, logging.WARNING)
    dropped, kept = record.__dict__["fields"]["count"], len(collector.said("everybody"))
    # Records of the wrapper itself may have taken places or been dropped.
    assert 2 * QUEUE_RECORDS + 2 - kept <= dropped
    assert kept <= QUEUE_RECORDS + 200, "what was taken at once, and the queue"
    # It goes on as before.
    warn()
    until(lambda: len(collector.said("everybody")) == kept + 1, "the next record")


def test_a_handler_that_raises_loses_its_record_and_no_other(
    offline: MakeWrapper, collector: Collector, warn: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    offline()
    written = ""

    def is_told() -> bool:
        nonlocal written
        written += capsys.readouterr().err
        return "a handler of a test" in written

    collector.raises = RuntimeError("a handler of a test")
    warn()
    until(is_told, "the traceback")
    collector.raises = None
    warn()
    until(lambda: len(collector.said("everybody")) == 2, "the next record")


PROGRAM = """
import asyncio, logging, os, sys
import pyarrow as pa
from arrow_zerobus_sdk_wrapper import ForkedProcessError, ZerobusWrapper

logging.basicConfig(level=1, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")

def make_wrapper(**settings):
    return ZerobusWrapper("http://127.0.0.1:9", "main.default.events", wal_dir=sys.argv[1],
                          retry_max_attempts=2**32 - 1, retry_base_delay_ms=1, retry_max_delay_ms=1,
                          wal_min_free_bytes=0, shutdown_timeout_secs=0, **settings)

def make_batch():
    return pa.record_batch({"id": pa.array(range(9), pa.int64())})
"""


def finish(program: str, wal_dir: Path) -> tuple[int, str, str]:
    """Exit code and output of a program, which must end by itself."""
    with subprocess.Popen(
        [*PYTHON, "-c", PROGRAM + textwrap.dedent(program), str(wal_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=DEADLINE_SECS)
        finally:
            process.kill()
        return process.returncode, out, err


ENDS = ["", "wrapper = None", "sys.exit(0)", "asyncio.run(wrapper.shutdown())"]


@pytest.mark.parametrize("number", range(PROCESSES))
def test_a_process_that_logs_under_load_exits_clean(tmp_path: Path, number: int) -> None:
    program = f"""
    wrapper = make_wrapper()

    async def main():
        sends = [asyncio.ensure_future(wrapper.send_batch(make_batch())) for _ in range(20)]
        await sends[0]
        await asyncio.sleep({(number % 7) * 0.003})

    asyncio.run(main())
    {ENDS[number % len(ENDS)]}
    """
    code, _, err = finish(program, tmp_path)
    assert (code, err) == (0, "")


def test_a_handler_that_takes_its_time_does_not_keep_a_process_from_its_exit(tmp_path: Path) -> None:
    program = """
    import threading

    class Slow(logging.Handler):
        def emit(self, record):
            threading.Event().wait(3)

    logging.getLogger("arrow_zerobus_sdk_wrapper").addHandler(Slow())
    wrapper = make_wrapper()
    asyncio.run(wrapper.send_batch(make_batch()))
    while wrapper.status()["lane"]["failures"] < 20:
        pass
    """
    # All of them would take a minute.
    code, _, err = finish(program, tmp_path)
    assert (code, err) == (0, "")


def test_what_was_logged_last_is_handed_over_at_exit(tmp_path: Path) -> None:
    program = """
    wrapper = make_wrapper()
    asyncio.run(wrapper.send_batch(make_batch()))
    while wrapper.status()["lane"]["failures"] < 3:
        pass
    """
    code, out, err = finish(program, tmp_path)
    assert (code, err) == (0, "")
    assert out.count("INFO arrow_zerobus_sdk_wrapper.drain delivery failed: state=backing_off") >= 3


def test_without_logging_set_up_nothing_is_written(tmp_path: Path) -> None:
    program = """
    logging.getLogger().handlers.clear()
    logging.getLogger().setLevel(logging.WARNING)
    wrapper = make_wrapper()
    asyncio.run(wrapper.send_batch(make_batch()))
    while wrapper.status()["lane"]["failures"] < 3:
        pass
    """
    assert finish(program, tmp_path) == (0, "", "")


def test_a_forked_child_has_no_thread_and_does_not_hang(tmp_path: Path) -> None:
    program = """
    import threading, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    wrapper = make_wrapper()
    asyncio.run(wrapper.send_batch(make_batch()))
    for _ in range(30):
        child = os.fork()
        if child == 0:
            try:
                make_wrapper()
            except ForkedProcessError:
                pass
            logging.getLogger("arrow_zerobus_sdk_wrapper.drain").warning("from the child")
            names = [thread.name for thread in threading.enumerate()]
            os._exit(names.count("arrow-zerobus-log") > 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    child = os.fork()
    if child == 0:
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    code, out, err = finish(program, tmp_path)
    assert (code, err) == (0, "")
    assert "from the child" in out


def test_a_child_of_a_process_that_only_imported_the_package_has_a_log_of_its_own(tmp_path: Path) -> None:
    program = """
    try:
        ZerobusWrapper.from_env(table_name="a.b.c", endpoint="http://127.0.0.1:9", segment_bytes=1)
    except ValueError:
        pass
    child = os.fork()
    if child == 0:
        wrapper = make_wrapper()
        asyncio.run(wrapper.send_batch(make_batch()))
        while wrapper.status()["lane"]["failures"] < 3:
            pass
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    code, out, err = finish(program, tmp_path)
    assert (code, err) == (0, "")
    assert "delivery failed" in out


def test_one_thread_serves_all_wrappers_of_a_process(offline: MakeWrapper, tmp_path: Path) -> None:
    for number in range(3):
        offline(wal_dir=tmp_path / str(number))
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("arrow-zerobus-log") == 1


def test_a_wrapper_that_was_refused_before_the_core_saw_it_starts_no_thread(tmp_path: Path) -> None:
    program = """
    import threading
    try:
        make_wrapper(on_full="explode")
    except ValueError:
        pass
    assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
    """
    assert finish(program, tmp_path) == (0, "", "")


def test_the_package_logs_as_a_library_does() -> None:
    handlers = logging.getLogger(PACKAGE).handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)
    assert ZerobusWrapper.__module__.startswith(PACKAGE)
