"""What the process does to a wrapper: exit, fork, signals, a second process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import LockedError
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import DEADLINE_SECS, PYTHON, TABLE, MakeWrapper

PRELUDE = """
import asyncio, os, sys
import pyarrow as pa
from arrow_zerobus_sdk_wrapper import ForkedProcessError, SyncZerobusWrapper, ZerobusWrapper

def make_wrapper(**settings):
    return ZerobusWrapper("http://127.0.0.1:9", "main.default.events", wal_dir=sys.argv[1],
                          retry_max_attempts=2**32 - 1, **settings)

def make_batch():
    return pa.record_batch({"id": pa.Array.from_buffers(pa.int64(), 9, [None, pa.py_buffer(bytearray(72))])})
"""


@contextlib.contextmanager
def running(program: str, wal_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs a program after the prelude; killed at the end if it still runs."""
    with subprocess.Popen(
        [*PYTHON, "-c", PRELUDE + textwrap.dedent(program), str(wal_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(program: str, wal_dir: Path) -> tuple[int, str, str]:
    """Exit code and output of a program, which must end by itself."""
    with running(program, wal_dir) as process:
        out, err = process.communicate(timeout=DEADLINE_SECS)
        return process.returncode, out, err


@pytest.mark.parametrize("loop_end", ["sys.exit(0)", "return", "os.kill(os.getpid(), 15)"])
def test_exit_with_work_under_way_is_silent(tmp_path: Path, loop_end: str) -> None:
    program = f"""
    async def main():
        wrapper = make_wrapper()
        result = await wrapper.send_batch(make_batch())
        tasks = [asyncio.ensure_future(wrapper.send_batch(make_batch())) for _ in range(50)]
        tasks += [asyncio.ensure_future(wrapper.wait_delivered(result)) for _ in range(5)]
        await asyncio.sleep(0)
        {loop_end}

    asyncio.run(main())
    """
    code, _, err = finish(program, tmp_path)
    assert code == (-15 if "kill" in loop_end else 0)
    assert err == ""


# `EXIT_RUNS=200` for the long run.
EXIT_RUNS = int(os.environ.get("EXIT_RUNS", "5"))


def test_exit_in_the_middle_of_everything_is_silent_quick_and_clean_each_time(tmp_path: Path) -> None:
    program = """
    import threading

    other = SyncZerobusWrapper("http://127.0.0.1:9", "main.default.others", wal_dir=sys.argv[1],
                               retry_max_attempts=2**32 - 1, shutdown_timeout_secs=1000)
    stored = other.send_batch(make_batch())

    def endless():
        # Python that is run by the exporter, which is what an exit finds it in.
        def batches():
            while True:
                yield make_batch()

        return pa.RecordBatchReader.from_batches(make_batch().schema, batches())

    def forever(call):
        threading.Thread(target=call, daemon=True).start()

    forever(lambda: other.send_batch(endless()))
    forever(lambda: other.wait_delivered(stored))
    forever(other.flush)

    async def main():
        wrapper = make_wrapper()
        forever(lambda: asyncio.run(wrapper.send_batch(endless())))
        result = await wrapper.send_batch(make_batch())
        tasks = [asyncio.ensure_future(wrapper.send_batch(make_batch())) for _ in range(50)]
        tasks += [asyncio.ensure_future(wrapper.wait_delivered(result)) for _ in range(5)]
        tasks += [asyncio.ensure_future(wrapper.flush())]
        tasks += [asyncio.ensure_future(wrapper.send_batch(endless()))]
        await asyncio.sleep(0)

    asyncio.run(main())
    print(time.monotonic())
    """
    slowest = 0.0
    for number in range(EXIT_RUNS):
        wal_dir = tmp_path / str(number)
        code, out, err = finish("import time\n" + textwrap.dedent(program), wal_dir)
        shutil.rmtree(wal_dir)
        slowest = max(slowest, time.monotonic() - float(out))
        assert (code, err) == (0, ""), f"run {number}"
        assert slowest < DEADLINE_SECS / 2, f"run {number}"
    print(f"{EXIT_RUNS} runs, the slowest exit took {slowest:.3f} s")


@pytest.mark.parametrize(
    "call",
    [
        "wrapper.send_batch(endless())",
        "asyncio.run(other.send_batch(endless()))",
        "wrapper.flush()",
        "wrapper.wait_delivered(1)",
        "wrapper.shutdown()",
        "wrapper.__exit__(None, None, None)",
        "other.__exit__(None, None, None)",
    ],
)
def test_daemon_threads_that_wait_in_a_call_do_not_disturb_the_exit(tmp_path: Path, call: str) -> None:
    program = f"""
    import threading

    wrapper = SyncZerobusWrapper("http://127.0.0.1:9", "main.default.others", wal_dir=sys.argv[1],
                                 retry_max_attempts=2**32 - 1, shutdown_timeout_secs=1000)
    other = make_wrapper(shutdown_timeout_secs=1000)
    wrapper.send_batch(make_batch())
    asyncio.run(other.send_batch(make_batch()))
    ready = threading.Semaphore(0)

    def endless():
        # Run by the stream, in the middle of the call.
        def batches():
            while True:
                ready.release()
                yield make_batch()
        return pa.RecordBatchReader.from_batches(make_batch().schema, batches())

    def main():
        ready.release()
        {call}

    for _ in range(3):
        threading.Thread(target=main, daemon=True).start()
    for _ in range(6 if "endless" in {call!r} else 3):
        ready.acquire()
    """
    assert finish(program, tmp_path) == (0, "", "")


def test_a_source_that_gives_nothing_holds_up_the_exit_for_a_moment_only(tmp_path: Path) -> None:
    program = """
    import atexit, threading, time
    inside = threading.Event()

    def first(stuck):
        def batches():
            yield make_batch()
            if stuck:
                inside.set()
                threading.Event().wait()
        return pa.RecordBatchReader.from_batches(make_batch().schema, batches())

    def main():
        wrapper.send_batch(first(stuck=True))

    # Registered before the library is there to close anything, so it is called after that.
    atexit.register(lambda: print(wrapper.send_batch(first(stuck=False)).lsn, flush=True))
    wrapper = SyncZerobusWrapper("http://127.0.0.1:9", "main.default.others", wal_dir=sys.argv[1],
                                 shutdown_timeout_secs=0)
    threading.Thread(target=main, daemon=True).start()
    inside.wait()
    """
    started = time.monotonic()
    assert finish(program, tmp_path) == (0, "2\n", "")
    assert time.monotonic() - started < DEADLINE_SECS / 2


def test_a_daemon_thread_with_a_loop_does_not_disturb_the_exit(tmp_path: Path) -> None:
    program = """
    import threading
    wrapper = make_wrapper()
    ready = threading.Event()

    async def main():
        result = await wrapper.send_batch(make_batch())
        ready.set()
        while True:
            await wrapper.send_batch(make_batch())

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    ready.wait()
    """
    assert finish(program, tmp_path) == (0, "", "")


def test_a_forked_child_is_refused_and_the_parent_goes_on(tmp_path: Path) -> None:
    program = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    wrapper = make_wrapper(shutdown_timeout_secs=0)
    assert asyncio.run(wrapper.send_batch(make_batch())).lsn == 1
    sync = SyncZerobusWrapper("http://127.0.0.1:9", "main.default.others", wal_dir=sys.argv[1],
                              shutdown_timeout_secs=0)
    assert sync.send_batch(make_batch()).lsn == 1
    child = os.fork()
    if child == 0:
        def refused(call):
            try:
                call()
            except ForkedProcessError as error:
                assert str(os.getppid()) in str(error) and error.code == "forked", error
            else:
                raise AssertionError("was not refused")
        refused(wrapper.status)
        for call in (wrapper.flush, wrapper.shutdown, lambda: wrapper.send_batch(make_batch())):
            refused(lambda: asyncio.run(call()))
        refused(lambda: wrapper.__exit__(None, None, None))
        for call in (sync.status, sync.flush, sync.shutdown, lambda: sync.send_batch(make_batch())):
            refused(call)
        del wrapper, sync
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert asyncio.run(wrapper.send_batch(make_batch())).lsn == 2
    assert sync.send_batch(make_batch()).lsn == 2
    with wrapper, sync:
        pass
    """
    assert finish(program, tmp_path) == (0, "", "")


def test_a_child_of_a_process_that_used_the_library_is_told_to_start_another_way(tmp_path: Path) -> None:
    program = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    with make_wrapper(shutdown_timeout_secs=0) as wrapper:
        assert asyncio.run(wrapper.send_batch(make_batch())).lsn == 1
    child = os.fork()
    if child == 0:
        try:
            make_wrapper()
        except ForkedProcessError as error:
            assert "spawn" in str(error), error
            sys.exit(7)
        sys.exit(8)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    """
    assert finish(program, tmp_path) == (0, "", "")


def test_a_child_of_a_process_that_did_not_use_the_library_opens_its_own(tmp_path: Path) -> None:
    program = """
    child = os.fork()
    if child == 0:
        with make_wrapper(shutdown_timeout_secs=0) as wrapper:
            assert asyncio.run(wrapper.send_batch(make_batch())).lsn == 1
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    """
    assert finish(program, tmp_path) == (0, "", "")


def test_ctrl_c_ends_a_blocking_shutdown(tmp_path: Path) -> None:
    program = """
    wrapper = make_wrapper(shutdown_timeout_secs=1000)
    asyncio.run(wrapper.send_batch(make_batch()))
    print("closing", flush=True)
    try:
        with wrapper:
            pass
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    """
    with running(program, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "closing\n"
        # The first signal may come before the shutdown has begun, and then is none of its business.
        deadline = time.monotonic() + DEADLINE_SECS
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert process.poll() is not None
        assert "interrupted" in process.stdout.read() or process.returncode == -signal.SIGINT


def test_a_second_process_that_wants_to_be_alone_is_told_who_is_there(
    tmp_path: Path, offline: MakeWrapper
) -> None:
    program = """
    wrapper = make_wrapper()
    print("open", flush=True)
    sys.stdin.read()
    """
    with running(program, tmp_path / "wal") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(LockedError, match=str(process.pid)):
            offline(exclusive=True)
    # Its lock went with it.
    wrapper = offline(exclusive=True)
    assert wrapper.status()["frames"]["stored"] == 0


def test_a_batch_that_was_stored_outlives_a_killed_process(tmp_path: Path, offline: MakeWrapper) -> None:
    program = """
    async def main():
        wrapper = make_wrapper()
        while True:
            print((await wrapper.send_batch(make_batch())).lsn, flush=True)

    asyncio.run(main())
    """
    with running(program, tmp_path / "wal") as process:
        assert process.stdout is not None
        for _ in range(20):
            promised = int(process.stdout.readline())
    status = offline().status()
    assert status["frames"]["stored"] >= promised
    assert status["frames"]["waiting"] >= promised


@pytest.mark.parametrize("is_handled", [True, False])
def test_sigterm_in_the_middle_of_work_loses_nothing(
    tmp_path: Path, emulator: Emulator, online: MakeWrapper, is_handled: bool
) -> None:
    program = f"""
    import signal

    async def main():
        stop = asyncio.Event()
        if {is_handled}:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with ZerobusWrapper(
            {emulator.endpoint!r}, {TABLE!r}, client_id="id", client_secret="s3cret",
            unity_catalog_url={emulator.unity_catalog_url!r}, wal_dir=sys.argv[1],
        ) as wrapper:
            number = 0
            while not stop.is_set():
                await wrapper.send_batch(pa.record_batch({{"id": [number], "name": ["a"]}}))
                number += 1
                print(number, flush=True)

    asyncio.run(main())
    """
    with running(program, tmp_path / "wal") as process:
        assert process.stdout is not None
        for _ in range(200):
            process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE_SECS)
        assert (process.returncode, err) == (0 if is_handled else -signal.SIGTERM, "")
    promised = int(out.splitlines()[-1]) if out else 200
    if not is_handled:
        asyncio.run(online().flush())
    landed = (
        DeltaTable(str(tmp_path / "tables" / TABLE.replace(".", "/"))).to_pyarrow_table()["id"].to_pylist()
    )
    assert set(range(promised)) <= set(landed)
    if is_handled:
        assert sorted(landed) == list(range(promised))
