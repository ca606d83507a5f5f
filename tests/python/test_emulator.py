"""The emulator from Python: the official client writes, another reader of Delta tables reads.

Goal: the public promises of ``arrow_zerobus_sdk_wrapper.emulator``. Method: its real process, the package
``databricks-zerobus-ingest-sdk`` as the client and ``deltalake`` as the reader; neither shares code with
the emulator.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deltalake
import pytest
import zerobus.sdk.sync as zerobus
from google.protobuf import descriptor_pb2

from arrow_zerobus_sdk_wrapper import ZerobusError
from arrow_zerobus_sdk_wrapper.emulator import Emulator, EmulatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TABLE = "main.default.events"
COLUMNS = "id BIGINT NOT NULL, name STRING, price DECIMAL(10,2)"
DEADLINE_SECS = 60.0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def leftovers_of_the_official_client() -> Iterator[None]:
    """It leaves the sockets of its token requests to the garbage collector, which pytest holds against us."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def open_stream(emulator: Emulator, *, secret: str = "secret", descriptor: Any = None) -> Any:
    sdk = zerobus.ZerobusSdk(emulator.endpoint, emulator.unity_catalog_url)
    # The package has no public way to speak plain HTTP; its core has one for tests.
    sdk._inner.set_use_tls(False)
    options = zerobus.StreamConfigurationOptions(recovery=False)
    return sdk.create_stream("me", secret, zerobus.TableProperties(TABLE, descriptor), options)


def message_class() -> Any:
    from google.protobuf import descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="events.proto", package="test", syntax="proto2")
    message = file.message_type.add(name="Event")
    message.field.add(name="id", number=1, type=field.TYPE_INT64, label=field.LABEL_REQUIRED)
    message.field.add(name="name", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    message.field.add(name="price", number=3, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Event"))


def read(emulator: Emulator) -> list[dict[str, Any]]:
    import pyarrow as pa

    data = deltalake.DeltaTable(str(emulator.table_path(TABLE))).to_pyarrow_table()
    assert isinstance(data, pa.Table)
    rows: list[dict[str, Any]] = data.sort_by("id").to_pylist()
    return rows


def test_protobuf_and_json_records_of_the_official_client_land_in_a_table_that_deltalake_reads() -> None:
    event = message_class()
    with Emulator(tables={TABLE: COLUMNS}, commit_interval_ms=20) as emulator:
        stream = open_stream(emulator, descriptor=event.DESCRIPTOR)
        records = [event(id=n, name=f"row {n}", price=f"{n}.25") for n in range(100)]
        stream.wait_for_offset(stream.ingest_records_offset([r.SerializeToString() for r in records]))
        stream.close()
        stream = open_stream(emulator)
        stream.ingest_record_offset(json.dumps({"id": 100, "price": "-0.5"}))
        stream.flush()
        stream.close()
        rows = read(emulator)
    assert [row["id"] for row in rows] == list(range(101))
    assert [row["name"] for row in rows] == [f"row {n}" for n in range(100)] + [None]
    assert [str(row["price"]) for row in rows] == [f"{n}.25" for n in range(100)] + ["-0.50"]


def test_acknowledged_rows_survive_kill_and_restart_on_the_same_ports(tmp_path: Path) -> None:
    with Emulator(tmp_path, tables={TABLE: COLUMNS}, commit_interval_ms=20) as emulator:
        endpoint = emulator.endpoint
        promised: set[int] = set()
        for kill in range(3):
            stream = open_stream(emulator)
            stop = threading.Timer(0.3, emulator.kill)
            stop.start()
            number = kill * 1_000_000
            try:
                while True:
                    stream.wait_for_offset(stream.ingest_record_offset(json.dumps({"id": number})))
                    promised.add(number)
                    number += 1
            except zerobus.ZerobusException:
                pass
            stop.join()
            assert emulator.pid is None
            emulator.restart()
            assert emulator.endpoint == endpoint
        landed = [row["id"] for row in read(emulator)]
    assert promised
    assert len(landed) == len(set(landed))
    assert promised <= set(landed)


def test_a_wrong_secret_gets_no_stream_and_the_right_one_does() -> None:
    with Emulator(tables={TABLE: COLUMNS}, client_id="me", client_secret="secret") as emulator:
        with pytest.raises(zerobus.ZerobusException):
            open_stream(emulator, secret="wrong")
        open_stream(emulator).close()


def test_the_catalog_describes_a_table_to_whoever_has_a_token() -> None:
    def get(url: str, authorization: str) -> Any:
        request = urllib.request.Request(url, headers={"Authorization": authorization})
        with urllib.request.urlopen(request, timeout=DEADLINE_SECS) as answer:
            return json.load(answer)

    with Emulator(tables={TABLE: COLUMNS}, client_id="me", client_secret="s:cret") as emulator:
        form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": "all-apis"})
        request = urllib.request.Request(f"{emulator.unity_catalog_url}/oidc/v1/token", form.encode())
        request.add_header("Authorization", "Basic " + base64.b64encode(b"me:s:cret").decode())
        with urllib.request.urlopen(request, timeout=DEADLINE_SECS) as answer:
            token = json.load(answer)
        url = f"{emulator.unity_catalog_url}/api/2.1/unity-catalog/tables/"
        table = get(url + TABLE, f"Bearer {token['access_token']}")
        for name, authorization, status in [
            (TABLE, "Bearer wrong", 401),
            ("main.default.missing", f"Bearer {token['access_token']}", 404),
        ]:
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(url + name, authorization)
            assert refused.value.code == status
    assert token["token_type"] == "Bearer"
    assert token["expires_in"] == 3600
    assert [(c["name"], c["type_text"], c["nullable"]) for c in table["columns"]] == [
        ("id", "bigint", False),
        ("name", "string", True),
        ("price", "decimal(10,2)", True),
    ]


def test_a_start_that_fails_says_why_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert issubclass(EmulatorError, ZerobusError)
    with pytest.raises(EmulatorError, match=r"position 4.*BIGNIT") as wrong:
        Emulator(tmp_path, tables={"a.b.c": "id BIGNIT"}).start()
    assert wrong.value.exit_code == 2
    again = pickle.loads(pickle.dumps(wrong.value))
    assert (str(again), again.exit_code) == (str(wrong.value), 2)
    with Emulator(tmp_path) as first:
        second = Emulator(tmp_path)
        with pytest.raises(EmulatorError, match="another running emulator") as locked:
            second.start()
        assert locked.value.exit_code == 23
        assert second.pid is None
        assert first.pid is not None
    with pytest.raises(ValueError, match="together"):
        Emulator(client_id="me")


def test_persistent_streams_are_there_unless_they_are_switched_off() -> None:
    for switch, is_given in [(True, False), (False, True)]:
        with Emulator(tables={TABLE: COLUMNS}, persistent_streams=switch) as emulator:
            command = Path(f"/proc/{emulator.pid}/cmdline").read_bytes().split(b"\0")
            assert (b"--no-persistent-streams" in command) == is_given
            open_stream(emulator).close()


def test_a_temporary_data_directory_goes_away_with_the_emulator() -> None:
    with Emulator(tables={TABLE: COLUMNS}) as emulator:
        data_dir = emulator.data_dir
        assert emulator.table_path(TABLE).is_dir()
        emulator.kill()
        assert data_dir.is_dir()
        emulator.restart()
        assert emulator.data_dir == data_dir
    assert not data_dir.exists()


def test_it_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from arrow_zerobus_sdk_wrapper.emulator import Emulator\n"
        "emulator = Emulator(sys.argv[1])\n"
        "emulator.start()\n"
        "print(emulator.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()

    def is_gone() -> bool:
        try:
            # A zombie that nobody has reaped yet has ended as well.
            with open(f"/proc/{child}/stat", encoding="ascii") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_until(is_gone)
    # It gave its lock back, so another one can work there.
    with Emulator(tmp_path):
        pass
