"""Rows that are refused for good: the good ones land, the bad ones are Arrow files that others can read."""

from __future__ import annotations

import asyncio
import pickle
import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.ipc
import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import ConfigurationError, TransmissionError, ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE, MakeWrapper, until

DOCS = Path(__file__).parents[2] / "docs" / "quarantine.md"
BAD = (3, 50, 99)


def batch(first: int, rows: int = 100, bad: tuple[int, ...] = BAD) -> pa.RecordBatch:
    """A batch of the narrow table; the rows ``bad`` have a number that it cannot hold."""
    values = [2**40 if row in bad else row for row in range(rows)]
    ids = pa.array(range(first, first + rows), pa.int64())
    return pa.record_batch({"id": ids, "value": pa.array(values, pa.int64())})


@pytest.fixture
def narrow(tmp_path: Path) -> Any:
    """A local Zerobus whose table has a narrow column."""
    with Emulator(
        data_dir=tmp_path / "narrow",
        tables={TABLE: "id BIGINT, value INT"},
        client_id="id",
        client_secret="s3cret",
    ) as running:
        yield running


def on(emulator: Emulator) -> dict[str, Any]:
    return {"endpoint": emulator.endpoint, "unity_catalog_url": emulator.unity_catalog_url}


def know(wrapper: ZerobusWrapper) -> None:
    until(lambda: wrapper.status()["table_schema"]["columns"] == 2, "the columns")


def sizes(wrapper: ZerobusWrapper) -> tuple[int, int]:
    files = list(Path(wrapper.status()["quarantine"]["directory"]).iterdir())
    return len(files), sum(path.stat().st_size for path in files)


def kept(wrapper: ZerobusWrapper) -> pa.Table:
    directory = Path(wrapper.status()["quarantine"]["directory"])
    return pa.concat_tables(pa.ipc.open_file(path).read_all() for path in sorted(directory.glob("*.arrow")))


def test_good_rows_land_bad_ones_are_kept_and_flush_says_so_once(
    narrow: Emulator, online: MakeWrapper
) -> None:
    async def main() -> None:
        async with online(**on(narrow)) as wrapper:
            know(wrapper)
            await wrapper.send_batch(batch(0))
            await wrapper.send_batch(batch(100))
            with pytest.raises(TransmissionError, match=r"6 rows .* in quarantine") as caught:
                await wrapper.flush(timeout=60)
            assert (caught.value.lsn, caught.value.rows) == (None, [])
            await wrapper.flush(timeout=60)
            with pytest.raises(TransmissionError) as caught:
                await wrapper.wait_delivered(2)
            error = caught.value
            assert (error.lsn, error.rows, error.code, error.retryable) == (
                2,
                list(BAD),
                "transmission",
                False,
            )
            assert vars(pickle.loads(pickle.dumps(error))) == vars(error)

            status = wrapper.status()
            rows = status["rows"]
            assert rows == {"stored": 200, "delivered": 194, "quarantined": 6, "dropped": 0, "waiting": 0}
            assert status["frames"]["quarantined"] == 0
            assert status["quarantine"]["max_bytes"] == 2**30
            assert (status["quarantine"]["files"], status["quarantine"]["bytes"]) == sizes(wrapper)

            bad = kept(wrapper).sort_by("id")
            assert bad.column("id").to_pylist() == [*BAD, *(100 + row for row in BAD)]
            assert bad.column("_zerobus_row").to_pylist() == [*BAD, *BAD]
            assert bad.column("_zerobus_lsn").to_pylist() == [1, 1, 1, 2, 2, 2]
            assert bad.schema.field("value").type == pa.int64(), "as it was"
            assert bad.schema.metadata[b"zerobus.table"] == TABLE.encode()
            counted = duckdb.sql("SELECT _zerobus_code, count(*), max(value) FROM bad GROUP BY ALL")
            assert counted is not None
            assert counted.fetchall() == [("conversion", 6, 2**40)]

    asyncio.run(main())
    landed = DeltaTable(str(narrow.table_path(TABLE))).to_pyarrow_table().sort_by("id")
    assert landed.column("id").to_pylist() == [row for row in range(200) if row % 100 not in BAD]


def test_who_waits_for_delivery_learns_the_rows(narrow: Emulator, online: MakeWrapper) -> None:
    async def main() -> None:
        async with online(**on(narrow), wait_for="delivered") as wrapper:
            know(wrapper)
            assert (await wrapper.send_batch(batch(0, bad=()))).state == "delivered"
            with pytest.raises(TransmissionError, match="row 7 of frame 2 was refused") as caught:
                await wrapper.send_batch(batch(100, rows=10, bad=(7,)))
            assert (caught.value.lsn, caught.value.rows, caught.value.table) == (2, [7], TABLE)

    asyncio.run(main())


def test_without_a_quarantine_the_log_parks_and_the_table_can_heal_it(
    narrow: Emulator, online: MakeWrapper
) -> None:
    with online(**on(narrow), quarantine_max_bytes=0, shutdown_timeout_secs=0) as wrapper:
        know(wrapper)
        asyncio.run(wrapper.send_batch(batch(0)))

        def is_parked() -> bool:
            lane = wrapper.status()["lane"]
            return lane is not None and lane["state"] == "poison"

        until(is_parked, "the refusal")
        with pytest.raises(Exception, match="quarantine_max_bytes is 0"):
            asyncio.run(wrapper.flush(timeout=60))
        assert wrapper.status()["rows"]["quarantined"] == 0


def test_a_schema_that_is_given_up_is_kept_as_whole_frames(narrow: Emulator, online: MakeWrapper) -> None:
    with online(**on(narrow), validate="off", schema_grace_secs=0) as wrapper:
        know(wrapper)
        asyncio.run(wrapper.send_batch(pa.record_batch({"other": pa.array([1, 2, 3])})))
        asyncio.run(wrapper.send_batch(batch(0, bad=())))
        with pytest.raises(TransmissionError, match="3 rows"):
            asyncio.run(wrapper.flush(timeout=60))
        status = wrapper.status()
        assert (status["frames"]["quarantined"], status["frames"]["delivered"]) == (1, 1)
        bad = kept(wrapper)
        assert bad.column("other").to_pylist() == [1, 2, 3]
        assert set(bad.column("_zerobus_code").to_pylist()) == {"schema"}


def test_the_examples_of_the_documentation_work(
    narrow: Emulator, online: MakeWrapper, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    assert len(blocks) == 2
    with online(**on(narrow)) as wrapper:
        know(wrapper)
        sent = asyncio.run(wrapper.send_batch(batch(0)))
        with pytest.raises(TransmissionError):
            asyncio.run(wrapper.wait_delivered(sent, timeout=60))
        shared: dict[str, Any] = {"wrapper": wrapper}
        for block in blocks:
            exec(block, shared)  # noqa: S102 - it is our own documentation
    assert "'_zerobus_row': 50" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["schema_grace_secs", "quarantine_max_bytes"])
def test_a_wrong_bound_is_refused_by_its_name(offline: MakeWrapper, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is -1"):
        offline(**{name: -1})
