"""The examples for Python run as somebody would run them, and their rows land."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import until

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"
TABLE = "main.default.events"
# How many rows and how many different ids are in the table in the end.
LANDED = {
    "quickstart.py": (3, 3),
    "dataframes.py": (9_999 - 5 + 1 + 4, 9_999 - 5 + 1 + 4),
    "quarantine_review.py": (3, 3),
}


def run_example(*arguments: str | Path) -> str:
    """Runs an example against a local service, and returns what it says."""
    # The commands of the environment that this runs in.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "run_local.py", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def landed(said: str) -> tuple[int, int]:
    found = re.search(r"^(\d+) rows landed, (\d+) different ids$", said, re.MULTILINE)
    assert found, said
    return int(found[1]), int(found[2])


def test_every_example_is_run_here_and_listed() -> None:
    listed = set(re.findall(r"^\| \[(\w+\.py)\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE))
    there = {path.name for path in EXAMPLES.glob("*.py")} - {"run_local.py"}
    with_a_test_of_their_own = {
        "backpressure.py",
        "cron_job.py",
        "fastapi_ingest.py",
        "several_processes.py",
    }
    assert there == listed == set(LANDED) | with_a_test_of_their_own


@pytest.mark.parametrize("example", LANDED)
def test_the_rows_of_an_example_land(example: str) -> None:
    assert landed(run_example(example)) == LANDED[example]


def test_a_log_that_is_full_loses_nothing_that_was_stored() -> None:
    said = run_example("backpressure.py")
    left = re.search(r"(\d+) of them were overtaken by newer ones, (\d+) are left", said)
    assert left, said
    rows, _ = landed(said)
    assert rows == (300 - int(left[1])) * 2_000


def test_the_cron_job_sends_each_file_once_over_several_runs(tmp_path: Path) -> None:
    for number in range(3):
        rows = "".join(f"{number * 10 + row},row {row}\n" for row in range(10))
        (tmp_path / f"{number}.csv").write_text("id,name\n" + rows)
    said = run_example("cron_job.py", tmp_path)
    assert landed(said) == (30, 30)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".sent"] * 3
    assert landed(run_example("cron_job.py", tmp_path)) == (0, 0)


def test_what_a_killed_worker_has_left_lands_too() -> None:
    said = run_example("several_processes.py")
    assert "[-9, 0, 0, 0]" in said
    rows, ids = landed(said)
    # What was on its way when it was killed can be there twice.
    assert ids == 4 * 50 * 100 <= rows


@contextlib.contextmanager
def serving(emulator: Emulator, wal_dir: Path) -> Iterator[str]:
    """The endpoint of the FastAPI example, as its server serves it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    connection = {
        "ZEROBUS_ENDPOINT": emulator.endpoint,
        "ZEROBUS_TABLE_NAME": TABLE,
        "UNITY_CATALOG_URL": emulator.unity_catalog_url,
        "ZEROBUS_CLIENT_ID": emulator.settings["client_id"],
        "ZEROBUS_CLIENT_SECRET": emulator.settings["client_secret"],
        "ARROW_ZEROBUS_WAL_DIR": str(wal_dir),
    }
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), "fastapi_ingest:app"]
    with subprocess.Popen(command, cwd=EXAMPLES, env=os.environ | connection) as server:
        try:
            until(lambda: is_listening(port) or server.poll() is not None, "the server")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            # It raises the signal again when it has shut down.
            assert server.wait(60) == -signal.SIGTERM


def is_listening(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def call(url: str, body: object = None) -> tuple[int, object]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_http_endpoint_takes_rows_and_refuses_what_is_none(tmp_path: Path) -> None:
    columns = "id BIGINT, name STRING, value INT"
    with Emulator(data_dir=tmp_path / "tables", tables={TABLE: columns}) as emulator:
        with serving(emulator, tmp_path / "wal") as url:
            assert call(f"{url}/events", [{"id": 1, "name": "a"}, {"id": 2, "value": 3}]) == (202, {"lsn": 1})
            code, _ = call(f"{url}/events", [{"name": "no id"}])
            assert code == 422
            code, said = call(f"{url}/events", [{"id": 1, "value": 2**40}])
            assert code == 422, said
            code, health = call(f"{url}/healthz")
            assert code == 200, health
        # The server delivered when it was told to stop.
        assert DeltaTable(str(emulator.table_path(TABLE))).count() == 2
