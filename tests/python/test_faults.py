"""A service that misbehaves, from Python: rules for faults, TLS with a private CA, credentials that change.

Goal: the promises of ``Emulator.faults``, of the settings for certificates and secrets, and of
``update_credentials``. Method: the emulator's real process; what each fault does is tested from Rust.
"""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from arrow_zerobus_sdk_wrapper import (
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    ConnectionError,
    RetryExhausted,
    ZerobusWrapper,
)
from arrow_zerobus_sdk_wrapper.emulator import Emulator, EmulatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

TABLE = "main.default.events"
COLUMNS = "id BIGINT, name STRING"
SECRET = "s3cret"
DEADLINE_SECS = 60.0


def in_a_loop(test: Callable[[Path], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    """A test that is a coroutine, as a function that pytest can call."""

    @functools.wraps(test)
    def run(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path))

    return run


def batch() -> pa.RecordBatch:
    return pa.record_batch({"id": [1, 2, 3], "name": ["a", None, "c"]})


def settings(emulator: Emulator, wal_dir: Path) -> dict[str, Any]:
    return {
        "endpoint": emulator.endpoint,
        "table_name": TABLE,
        "client_id": "id",
        "client_secret": SECRET,
        "unity_catalog_url": emulator.unity_catalog_url,
        "wal_dir": wal_dir,
        "shutdown_timeout_secs": 0,
    }


def service(**options: Any) -> Emulator:
    return Emulator(
        tables={TABLE: COLUMNS}, commit_interval_ms=20, client_id="id", client_secret=SECRET, **options
    )


async def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


@in_a_loop
async def test_rules_are_added_counted_and_removed(tmp_path: Path) -> None:
    with service() as emulator:
        rules = emulator.faults(
            {"fault": "fail_open", "code": "UNAVAILABLE", "times": 2},
            {"fault": "withhold_acks", "table": "main.default.others"},
        )
        assert [(rule["id"], rule["fault"], rule["fired"]) for rule in rules] == [
            (1, "fail_open", 0),
            (2, "withhold_acks", 0),
        ]
        async with ZerobusWrapper(**settings(emulator, tmp_path)) as wrapper:
            await wrapper.send_batch(batch())
            await wrapper.flush(DEADLINE_SECS)
        assert [rule["fired"] for rule in emulator.faults()] == [2, 0]
        mistakes: list[tuple[dict[str, Any], str]] = [
            ({"fault": "fail_opem", "code": "UNAVAILABLE"}, "fail_open"),
            ({"fault": "fail_open", "code": "UNAVAILABLE", "time": 1}, "time"),
        ]
        for wrong, named in mistakes:
            with pytest.raises(EmulatorError, match=named):
                emulator.faults({"fault": "hang_open"}, wrong)
        assert len(emulator.faults()) == 2
        assert emulator.faults(clear=True) == []


@in_a_loop
async def test_a_service_behind_a_private_ca_is_trusted_by_whoever_knows_it(tmp_path: Path) -> None:
    with service(client_certificates=True) as emulator:
        assert emulator.endpoint.startswith("https://")
        options = settings(emulator, tmp_path) | {
            "client_certificate_file": emulator.client_certificate_file,
            "client_key_file": emulator.client_key_file,
        }
        async with ZerobusWrapper(**options) as wrapper:
            await wrapper.send_batch(batch())
            with pytest.raises(ConnectionError, match="ca_certificate_file"):
                await wrapper.flush(DEADLINE_SECS)
        options["ca_certificate_file"] = emulator.ca_certificate_file
        async with ZerobusWrapper(**options) as wrapper:
            await wrapper.flush(DEADLINE_SECS)
            assert wrapper.status()["rows"]["delivered"] == 3
        # Its own interface goes the same way.
        emulator.sql(f"REVOKE MODIFY ON TABLE {TABLE} FROM somebody")
        assert emulator.faults() == []


def test_a_file_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    wal_dir = tmp_path / "wal"
    options: dict[str, Any] = {"endpoint": "https://host", "table_name": TABLE, "client_id": "id"}
    options |= {"client_secret": SECRET, "wal_dir": wal_dir}
    missing = str(tmp_path / "missing")
    mistakes: list[tuple[str, dict[str, Any]]] = [
        ("ca_certificate_file", {}),
        ("client_certificate_file", {"client_key_file": missing}),
        ("client_secret_file", {"client_secret": None}),
    ]
    for setting, more in mistakes:
        with pytest.raises(ConfigurationError, match=f"{setting} is"):
            ZerobusWrapper(**(options | {setting: missing} | more))
    with pytest.raises(ConfigurationError, match="proxy is"):
        ZerobusWrapper(**options, proxy="ftp://somewhere")
    assert not wal_dir.exists()


@in_a_loop
async def test_new_credentials_resume_a_parked_log_at_once(tmp_path: Path) -> None:
    with service() as emulator:
        wrong = {"client_secret": "wrong", "retry_max_delay_ms": 3_600_000}
        async with ZerobusWrapper(**(settings(emulator, tmp_path) | wrong)) as wrapper:
            await wrapper.send_batch(batch())
            with pytest.raises(AuthenticationError):
                await wrapper.flush(DEADLINE_SECS)
            for bad in [{"client_secret": " "}, {"client_secret": SECRET, "client_id": ""}]:
                with pytest.raises(ConfigurationError, match="client_") as refused:
                    wrapper.update_credentials(**bad)
                assert SECRET not in str(refused.value)
            wrapper.update_credentials(client_secret=SECRET)
            await wait_until(lambda: wrapper.status()["rows"]["waiting"] == 0)
            assert SECRET not in repr(wrapper)
        with pytest.raises(ClosedError):
            wrapper.update_credentials(client_secret=SECRET)


@in_a_loop
async def test_a_secret_is_read_from_its_file_for_each_token(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("wrong")
    with service() as emulator:
        from_file = {"client_secret": None, "client_secret_file": file, "retry_max_delay_ms": 200}
        async with ZerobusWrapper(**(settings(emulator, tmp_path / "wal") | from_file)) as wrapper:
            await wrapper.send_batch(batch())
            with pytest.raises((AuthenticationError, RetryExhausted)):
                await wrapper.flush(DEADLINE_SECS)
            file.write_text(f"{SECRET}\n")
            await wait_until(lambda: wrapper.status()["rows"]["waiting"] == 0)
