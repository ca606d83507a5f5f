"""Ctrl-C while a call of ``SyncZerobusWrapper`` waits.

Goal: ``KeyboardInterrupt`` arrives at once, whatever the call waits for, and the wrapper can be used
afterwards. Method: a process of its own, in which a thread sends SIGINT as soon as the main thread is in the
wait, and measures how long it takes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import DEADLINE_SECS
from test_process import finish

PRELUDE = """
import signal, threading, time
from arrow_zerobus_sdk_wrapper import (
    ClosedError, FlushTimeoutError, SyncZerobusWrapper, ZerobusWrapper, _readable,
)

# Started by a shell in the background, a process ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def make(**settings):
    return SyncZerobusWrapper("http://127.0.0.1:9", "main.default.events", wal_dir=sys.argv[1],
                              retry_max_attempts=2**32 - 1, **settings)

def waits():
    frame = sys._current_frames()[threading.main_thread().ident]
    return frame.f_code.co_filename == _readable.__file__

def interrupted(call, may_interrupt=lambda: True):
    sent = []

    def interrupt():
        deadline = time.monotonic() + 60
        while not (waits() and may_interrupt()):
            if time.monotonic() > deadline:
                os._exit(9)
            time.sleep(0.001)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        call()
    except KeyboardInterrupt as error:
        took = time.monotonic() - sent[0]
    else:
        raise AssertionError("was not interrupted")
    finally:
        thread.join()
    print(took)
"""

SEND_ON_A_FULL_LOG = """
wrapper = make(wal_max_bytes=2**20, wal_min_free_bytes=0, shutdown_timeout_secs=0)
ids = pa.record_batch({"id": pa.array(range(1000), pa.int64())})

def fill():
    while True:
        wrapper.send_batch(ids)

interrupted(fill, lambda: wrapper.status()["full"])
stored = wrapper.status()["frames"]["stored"]
assert stored > 0
# What was given up is not stored later, and the log is as full for the next.
interrupted(lambda: wrapper.send_batch(ids))
assert wrapper.status()["frames"]["stored"] == stored
wrapper.shutdown()
"""

FLUSH_IN_AN_OUTAGE = """
wrapper = make(shutdown_timeout_secs=0)
assert wrapper.send_batch(make_batch()).lsn == 1
interrupted(wrapper.flush)
assert wrapper.send_batch(make_batch()).lsn == 2
wrapper.shutdown()
"""

WAIT_DELIVERED = """
wrapper = make(shutdown_timeout_secs=0)
result = wrapper.send_batch(pa.Table.from_batches([make_batch(), make_batch()]))
interrupted(lambda: wrapper.wait_delivered(result))
try:
    wrapper.wait_delivered(result, timeout=0.05)
except FlushTimeoutError as error:
    assert error.lsn == 1
assert wrapper.send_batch(make_batch()).lsn == 3
wrapper.shutdown()
"""

SEND_THAT_WAITS_FOR_DELIVERY = """
wrapper = make(wait_for="delivered", shutdown_timeout_secs=0)
interrupted(lambda: wrapper.send_batch(make_batch()), lambda: wrapper.status()["frames"]["stored"])
assert wrapper.status()["frames"]["waiting"] == 1
wrapper.shutdown()
"""

STREAM_ON_A_FULL_LOG = """
wrapper = make(wal_max_bytes=2**20, wal_min_free_bytes=0, shutdown_timeout_secs=0)
ids = pa.record_batch({"id": pa.array(range(1000), pa.int64())})
endless = pa.RecordBatchReader.from_batches(ids.schema, iter(lambda: ids, None))
notes = []

def send():
    try:
        wrapper.send_batch(endless)
    except KeyboardInterrupt as error:
        notes.extend(error.__notes__)
        raise

interrupted(send, lambda: wrapper.status()["full"])
stored = wrapper.status()["frames"]["stored"]
assert f"{stored} batches are stored under LSN 1 to {stored} " in notes[0], notes
wrapper.shutdown()
"""

SHUTDOWN = """
wrapper = make(shutdown_timeout_secs=1000)
wrapper.send_batch(make_batch())
interrupted(wrapper.shutdown)
# It goes on, so nothing else is taken, and another wait for it can be ended too.
try:
    wrapper.send_batch(make_batch())
except ClosedError:
    pass
else:
    raise AssertionError("was taken")
assert wrapper.status()["frames"]["waiting"] == 1
interrupted(wrapper.shutdown)
"""

LEAVING_THE_BLOCK = """
wrapper = make(shutdown_timeout_secs=1000)
wrapper.send_batch(make_batch())

def leave():
    with wrapper:
        pass

interrupted(leave)
"""

LEAVING_THE_BLOCK_OF_THE_OTHER = """
wrapper = make_wrapper(shutdown_timeout_secs=1000)
asyncio.run(wrapper.send_batch(make_batch()))

def leave():
    with wrapper:
        pass

interrupted(leave)
"""


@pytest.mark.parametrize(
    "program",
    [
        SEND_ON_A_FULL_LOG,
        FLUSH_IN_AN_OUTAGE,
        WAIT_DELIVERED,
        SEND_THAT_WAITS_FOR_DELIVERY,
        STREAM_ON_A_FULL_LOG,
        SHUTDOWN,
        LEAVING_THE_BLOCK,
        LEAVING_THE_BLOCK_OF_THE_OTHER,
    ],
    ids=[
        "send on a full log",
        "flush in an outage",
        "wait_delivered",
        "send that waits for delivery",
        "stream on a full log",
        "shutdown",
        "leaving the block",
        "leaving the block of a ZerobusWrapper",
    ],
)
def test_ctrl_c_ends_a_call_that_waits_and_the_wrapper_goes_on(tmp_path: Path, program: str) -> None:
    code, out, err = finish(PRELUDE + program, tmp_path)
    assert (code, err) == (0, "")
    took = [float(line) for line in out.splitlines()]
    print("seconds from the signal to the exception:", took)
    # It takes 0.1 s at most; the deadline is for machines that are busy with other things.
    assert took
    assert max(took) < DEADLINE_SECS / 4
