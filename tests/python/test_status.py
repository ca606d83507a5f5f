"""What can be seen of a wrapper: ``status()``, ``repr``, and the table of notebooks."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any, get_type_hints

import pyarrow as pa

from arrow_zerobus_sdk_wrapper import Status, ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import DEADLINE_SECS, MakeWrapper, make_batch, until


async def until_status(wrapper: ZerobusWrapper, holds: Callable[[Status], bool]) -> Status:
    """Waits for a status, while the loop goes on."""
    async with asyncio.timeout(DEADLINE_SECS):
        while not holds(status := wrapper.status()):
            await asyncio.sleep(0.05)
    return status


def test_the_status_has_the_fields_that_its_type_says_and_is_json(offline: MakeWrapper) -> None:
    status = offline().status()
    assert list(status) == list(get_type_hints(Status))
    assert json.loads(json.dumps(status)) == status


def test_a_log_that_fills_says_when_it_is_full(offline: MakeWrapper) -> None:
    async def main() -> None:
        wrapper = offline(wal_max_bytes=64 * 2**20, wal_min_free_bytes=0, on_full="reject")
        status = wrapper.status()
        assert status["full_in_secs"] is None
        assert status["drained_in_secs"] == 0.0
        sent = 0

        async def fill() -> None:
            nonlocal sent
            while True:
                await wrapper.send_batch(make_batch(rows=50))
                sent += 1
                await asyncio.sleep(0.01)

        filling = asyncio.ensure_future(fill())
        status = await until_status(wrapper, lambda status: status["full_in_secs"] is not None)
        filling.cancel()
        assert status["full"] is None
        # At most the whole quota, at the pace of what was stored until now.
        pace = status["waiting_bytes"] / sent
        assert 0 < status["full_in_secs"] < 64 * 2**20 / pace  # type: ignore[operator]
        assert status["drained_in_secs"] is None, "nothing is delivered"
        assert 0 < status["waiting_bytes"] <= status["log_bytes"]
        assert status["oldest_waiting_secs"] is not None
        assert status["lane"] is not None
        assert status["lane"]["reason"]

    asyncio.run(main())


def test_a_log_that_is_full_is_full_in_no_time(offline: MakeWrapper) -> None:
    async def main() -> None:
        wrapper = offline(wal_max_bytes=2**20, wal_min_free_bytes=0, on_full="reject")
        batch = pa.record_batch({"id": pa.array(range(8000), pa.int64())})
        for _ in range(100):
            sent = await asyncio.gather(wrapper.send_batch(batch), return_exceptions=True)
            if isinstance(sent[0], BaseException):
                break
        status = wrapper.status()
        assert status["full"]
        assert status["full_in_secs"] == 0.0

    asyncio.run(main())


def test_a_log_that_empties_says_when_it_is_empty(
    emulator: Emulator, offline: MakeWrapper, online: MakeWrapper
) -> None:
    async def main() -> None:
        async with offline() as wrapper:
            for first in range(0, 3000, 20):
                await wrapper.send_batch(make_batch(first, 20))
        # What was stored before is delivered in part, and the rest is not acknowledged.
        emulator.faults({"fault": "withhold_acks", "after": 5})
        wrapper = online(request_max_bytes=1024, max_inflight_requests=1, shutdown_timeout_secs=0)
        status = await until_status(wrapper, lambda status: status["drained_in_secs"] is not None)
        rows = status["rows"]
        assert 0 < rows["delivered"] < 3000
        assert status["drained_in_secs"]
        # It took at least two seconds to deliver that much.
        assert status["drained_in_secs"] > 2 * rows["waiting"] / rows["delivered"] * 0.99
        assert status["full_in_secs"] is None
        emulator.faults(clear=True)

    asyncio.run(main())


def test_the_repr_shows_state_and_counts(offline: MakeWrapper) -> None:
    async def main() -> None:
        wrapper = offline()
        await wrapper.send_batch(make_batch())
        shown = repr(wrapper)
        assert "table_name='main.default.events'" in shown
        assert shown.endswith("stored=3 delivered=0 waiting=3>")
        await wrapper.shutdown()
        assert " state=stopped " in repr(wrapper)

    asyncio.run(main())


def test_the_repr_of_a_wrapper_that_could_not_be_made_raises_nothing() -> None:
    unmade = ZerobusWrapper.__new__(ZerobusWrapper)
    assert repr(unmade).endswith("state=unknown (AttributeError)>")
    assert "AttributeError" not in unmade._repr_html_() or "_core" in unmade._repr_html_()


def test_a_forked_child_can_look_at_its_parents_wrapper(offline: MakeWrapper) -> None:
    wrapper = offline()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, f"{wrapper!r}\n{wrapper._repr_html_()}".encode())
        os._exit(0)
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with os.fdopen(reader) as told:
        shown = told.read()
    assert "state=forked>" in shown
    assert "cannot be used in its forked child" in shown


def test_a_notebook_shows_the_status_as_a_table_in_which_nothing_is_taken_for_html(
    offline: MakeWrapper, tmp_path: Any
) -> None:
    wrapper = offline(wal_dir=tmp_path / "<b>bold</b> & co")
    shown = wrapper._repr_html_()
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; co" in shown
    assert "<b>" not in shown
    for text in ("main.default.events", "rows waiting", "full in about", "drained in about"):
        assert text in shown


def test_a_notebook_shows_no_secret(online: MakeWrapper) -> None:
    wrapper = online()
    assert "s3cret" not in wrapper._repr_html_() + repr(wrapper)
    until(lambda: wrapper.status()["table_schema"]["columns"] is not None, "the columns")
    assert "s3cret" not in wrapper._repr_html_() + repr(wrapper)
