"""The debug files: what was stored, as others read it, and that nothing suffers from them.

Goal: pyarrow reads the batches, Google's ``protobuf`` the records, at any moment up to the last flush.
Method: wrappers write them, in this process and in ones that are killed; failures are those of a real file
system.
"""

from __future__ import annotations

import datetime
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from arrow_zerobus_sdk_wrapper import ConfigurationError, SyncZerobusWrapper, ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE, UNREACHABLE, make_batch, until
from docs_blocks import blocks_run_by
from test_conversion import delimited
from test_end_to_end import landed

# Longer than any test.
NEVER_SECS = 3600


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def debugging(out: Path, wal_dir: Path, **settings: Any) -> SyncZerobusWrapper:
    """A wrapper that delivers nothing and writes debug files."""
    defaults: dict[str, Any] = {
        "wal_dir": wal_dir,
        "shutdown_timeout_secs": 0,
        "debug_enabled": True,
        "debug_output_dir": out,
        "debug_flush_interval_secs": NEVER_SECS,
    }
    return SyncZerobusWrapper(UNREACHABLE, TABLE, **(defaults | settings))


def arrows(out: Path, name: str = TABLE) -> list[dict[str, Any]]:
    """The rows of a file of batches."""
    with pa.ipc.open_stream(out / "zerobus" / "arrow" / f"{name}.arrows") as stream:
        rows: list[dict[str, Any]] = stream.read_all().to_pylist()
        return rows


def message_of(out: Path, name: str = TABLE) -> Any:
    """The class of the messages of a file of records, by the descriptor that stands beside it."""
    pool = descriptor_pool.DescriptorPool()
    described = (out / "zerobus" / "proto" / f"{name}.desc").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(described).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Record"))


def records(out: Path, name: str = TABLE) -> list[Any]:
    """The messages of a file of records."""
    message = message_of(out, name)
    data = (out / "zerobus" / "proto" / f"{name}.binpb").read_bytes()
    return [message.FromString(record) for record in delimited(data)]


def names(out: Path, kind: str) -> list[str]:
    return sorted(path.name for path in (out / "zerobus" / kind).iterdir())


def whole_rows(out: Path, name: str = TABLE) -> list[dict[str, Any]]:
    """The rows before a tear, which a kill in the middle of a write may leave."""
    rows: list[dict[str, Any]] = []
    with pa.ipc.open_stream(out / "zerobus" / "arrow" / f"{name}.arrows") as stream:
        try:
            for batch in stream:
                rows += batch.to_pylist()
        except pa.ArrowInvalid:
            pass
    return rows


def is_readable(out: Path, rows: list[dict[str, Any]]) -> bool:
    try:
        return arrows(out) == rows
    except (OSError, pa.ArrowInvalid):
        return False


def test_both_files_show_what_was_stored_and_delivered(emulator: Emulator, tmp_path: Path, out: Path) -> None:
    settings: dict[str, Any] = {**emulator.settings, "table_name": TABLE, "wal_dir": tmp_path / "wal"}
    batches = [make_batch(0), make_batch(3, 5)]
    with SyncZerobusWrapper(**settings, debug_enabled=True, debug_output_dir=out) as wrapper:
        for batch in batches:
            wrapper.send_batch(batch)
        wrapper.flush()
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert arrows(out) == rows
    assert [{"id": record.id, "name": record.name} for record in records(out)] == rows
    assert landed(emulator) == rows


def test_lists_structs_and_maps_are_read_by_protobuf(tmp_path: Path, out: Path) -> None:
    point = pa.struct([("point", pa.int64()), ("tags", pa.map_(pa.string(), pa.int64()))])
    values = [{"point": 1, "tags": [("a", 2)]}, {"point": None, "tags": []}]
    batch = pa.record_batch(
        {
            "point": pa.array(values, point),
            "points": pa.array([values, []], pa.list_(point)),
            "by_name": pa.array([[("x", values[0])], []], pa.map_(pa.string(), point)),
            "words": pa.array(["a", None]).dictionary_encode(),
        }
    )
    with debugging(out, tmp_path / "wal") as wrapper:
        wrapper.send_batch(batch)
        wrapper.send_batch(batch)
    assert arrows(out) == batch.to_pylist() * 2
    shown = records(out)
    assert len(shown) == 4
    first, second = shown[:2]
    assert (first.point.point, [(tag.key, tag.value) for tag in first.point.tags]) == (1, [("a", 2)])
    assert not second.point.HasField("point")
    assert [one.HasField("point") for one in first.points] == [True, False]
    assert [(entry.key, entry.value.point) for entry in first.by_name] == [("x", 1)]
    assert (first.words, second.HasField("words")) == ("a", False)


def test_the_programs_of_the_page_read_both_files(tmp_path: Path, out: Path) -> None:
    with debugging(out, tmp_path / "wal") as wrapper:
        wrapper.send_batch(make_batch())
    programs = blocks_run_by("test_debug_files.py::test_the_programs_of_the_page_read_both_files")
    assert len(programs) == 2
    for program in programs:
        command = [sys.executable, "-W", "error", "-c", program.body]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert [done.stdout.count(f"name {i}") for i in range(4)] == [1, 1, 1, 0]


def test_protoc_reads_the_first_record(tmp_path: Path, out: Path) -> None:
    if shutil.which("protoc") is None:
        text = "protoc is not installed: apt-get install --no-install-recommends protobuf-compiler"
        assert os.environ.get("CI") != "true", text
        pytest.skip(text)
    with debugging(out, tmp_path / "wal") as wrapper:
        wrapper.send_batch(make_batch(7))
    (block,) = blocks_run_by("test_debug_files.py::test_protoc_reads_the_first_record")
    command = ["bash", "-euo", "pipefail", "-c", block.body]
    done = subprocess.run(command, cwd=out / "zerobus/proto", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, 'id: 7\nname: "name 7"\n', "")


def test_a_batch_is_flushed_on_time_though_none_follows(tmp_path: Path, out: Path) -> None:
    with debugging(out, tmp_path / "wal", debug_flush_interval_secs=0.1) as wrapper:
        wrapper.send_batch(make_batch())
        until(lambda: is_readable(out, make_batch().to_pylist()), "the flush")
        until(lambda: len(records(out)) == 3, "the flush of the records")


def test_a_flush_comes_with_the_interval_and_not_with_each_batch(tmp_path: Path, out: Path) -> None:
    with debugging(out, tmp_path / "wal") as wrapper:
        wrapper.send_batch(make_batch())
        path = out / "zerobus" / "proto" / f"{TABLE}.binpb"
        until(path.exists, "the file")
        assert path.stat().st_size == 0
    assert len(records(out)) == 3


def test_files_are_rotated_by_size_and_by_schema_and_the_newest_are_kept(tmp_path: Path, out: Path) -> None:
    other = pa.record_batch({"count": [1]})
    limits = {"debug_max_file_size": 4096, "debug_max_files_retained": 2}
    with debugging(out, tmp_path / "wal", **limits) as wrapper:
        for first in range(0, 3000, 100):
            wrapper.send_batch(make_batch(first, 100))
        wrapper.send_batch(other)
    for kind, extension in (("arrow", "arrows"), ("proto", "binpb")):
        files = [name for name in names(out, kind) if name.endswith(extension)]
        assert len(files) == 3
        assert files[-1] == f"{TABLE}.{extension}"
        assert all((out / "zerobus" / kind / name).stat().st_size <= 4096 for name in files)
    assert len(names(out, "proto")) == 6
    assert arrows(out) == [{"count": 1}]
    assert [record.count for record in records(out)] == [1]
    # The current file sorts behind the numbers.
    newest = names(out, "arrow")[-2].removesuffix(".arrows")
    assert arrows(out, newest)[-1] == {"id": 2999, "name": "name 2999"}
    newest = names(out, "proto")[-4].removesuffix(".binpb")
    assert records(out, newest)[-1].id == 2999


def test_two_wrappers_of_a_table_write_files_of_their_own(tmp_path: Path, out: Path) -> None:
    with debugging(out, tmp_path / "wal", debug_flush_interval_secs=0.1) as one:
        one.send_batch(make_batch(0))
        until(lambda: is_readable(out, make_batch(0).to_pylist()), "the first file")
        with debugging(out, tmp_path / "wal") as two:
            two.send_batch(make_batch(3))
    assert arrows(out) == make_batch(0).to_pylist()
    assert arrows(out, f"{TABLE}-writer-002") == make_batch(3).to_pylist()


@pytest.mark.parametrize(
    ("setting", "absent"), [("debug_arrow_enabled", "arrow"), ("debug_protobuf_enabled", "proto")]
)
def test_one_kind_of_file_can_be_left_out(tmp_path: Path, out: Path, setting: str, absent: str) -> None:
    with debugging(out, tmp_path / "wal", **{setting: False}) as wrapper:
        wrapper.send_batch(make_batch())
    kinds = {path.name for path in (out / "zerobus").iterdir() if path.is_dir()}
    assert kinds == {"arrow", "proto"} - {absent}


def test_rows_that_do_not_convert_are_left_out_of_the_records_only(
    tmp_path: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch = pa.record_batch({"at": pa.array([1_000, 1_001], pa.timestamp("ns"))})
    with debugging(out, tmp_path / "wal", timestamp_ns="error") as wrapper:
        wrapper.send_batch(batch)
    with pa.ipc.open_stream(out / "zerobus" / "arrow" / f"{TABLE}.arrows") as stream:
        assert stream.read_all().num_rows == 2
    assert [record.at for record in records(out)] == [1]
    assert datetime.timedelta(microseconds=records(out)[0].at) == datetime.timedelta(microseconds=1)
    until(lambda: "left out of the debug file of records" in caplog.text, "the warning")
    assert "nanoseconds" in caplog.text


def test_without_debug_enabled_nothing_is_written(tmp_path: Path, out: Path) -> None:
    with debugging(out, tmp_path / "wal", debug_enabled=False) as wrapper:
        wrapper.send_batch(make_batch())
    assert not out.exists()


def test_debug_files_need_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="debug_output_dir is missing") as caught:
        ZerobusWrapper(UNREACHABLE, TABLE, wal_dir=tmp_path / "wal", debug_enabled=True)
    assert caught.value.setting == "debug_output_dir"
    assert not (tmp_path / "wal").exists()


@pytest.mark.parametrize("place", ["a file", "/proc/nowhere"])
def test_a_directory_that_cannot_be_written_disturbs_nothing_and_is_told_once(
    emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    directory = tmp_path / place
    if place == "a file":
        directory.touch()
    settings: dict[str, Any] = {**emulator.settings, "table_name": TABLE, "wal_dir": tmp_path / "wal"}
    settings |= {"debug_enabled": True, "debug_output_dir": directory, "debug_flush_interval_secs": 0.001}
    with SyncZerobusWrapper(**settings) as wrapper:
        for first in range(20):
            assert wrapper.send_batch(make_batch(first, 1)).state == "stored"
        wrapper.flush()
    assert landed(emulator) == make_batch(0, 20).to_pylist()

    def told() -> list[str]:
        return [
            record.getMessage()
            for record in caplog.records
            if record.levelno == logging.WARNING and "debug files cannot be written" in record.getMessage()
        ]

    until(lambda: bool(told()), "the warning")
    assert len(told()) == 1
    assert str(directory) in told()[0]


def test_a_directory_that_is_mended_is_written_again(
    tmp_path: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out.touch()
    with debugging(out, tmp_path / "wal", debug_flush_interval_secs=0.05) as wrapper:
        wrapper.send_batch(make_batch(0))
        until(lambda: "debug files cannot be written" in caplog.text, "the warning")
        out.unlink()

        def comes_back() -> bool:
            wrapper.send_batch(make_batch(3))
            return "debug files are written again" in caplog.text

        until(comes_back, "the next attempt")
    rows = arrows(out)
    assert rows
    assert all(row["id"] >= 3 for row in rows)


KILLED = """
import sys
import pyarrow as pa
from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper
wrapper = SyncZerobusWrapper("http://127.0.0.1:9", "main.default.events", wal_dir=sys.argv[1],
                             debug_enabled=True, debug_output_dir=sys.argv[2], debug_flush_interval_secs=0.05)
number = 0
while True:
    wrapper.send_batch(pa.record_batch({"id": [number], "name": ["x" * 1000]}))
    number += 1
"""


def test_after_a_kill_the_files_are_read_up_to_the_last_flush_and_the_next_start_moves_them(
    tmp_path: Path, out: Path
) -> None:
    program = [sys.executable, "-c", KILLED, str(tmp_path / "wal"), str(out)]
    with subprocess.Popen(program) as process:
        try:

            def has_rows() -> bool:
                try:
                    return len(arrows(out)) > 100 and len(records(out)) > 100
                except (OSError, pa.ArrowInvalid):
                    return False

            until(has_rows, "flushes under load")
        finally:
            os.kill(process.pid, signal.SIGKILL)
    shown = whole_rows(out)
    assert len(shown) > 100
    assert [row["id"] for row in shown] == list(range(len(shown)))
    data = (out / "zerobus" / "proto" / f"{TABLE}.binpb").read_bytes()
    # The last record may be torn.
    whole = [message_of(out).FromString(record) for record in list(delimited(data))[:-1]]
    assert len(whole) >= 100
    assert [record.id for record in whole] == list(range(len(whole)))
    with debugging(out, tmp_path / "wal") as wrapper:
        wrapper.send_batch(make_batch())
    assert arrows(out) == make_batch().to_pylist()
    assert whole_rows(out, f"{TABLE}.000001") == shown
