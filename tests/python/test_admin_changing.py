"""What changes logs, from Python: pauses, freeing, adoption; and the doctor, who changes nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import ConfigurationError, LockedError, PausedError, admin
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import DEADLINE_SECS, TABLE, UNREACHABLE, MakeWrapper, make_batch, until

SCRIPT = Path(sys.executable).with_name("zerobus-wal")


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, timeout=DEADLINE_SECS)


def test_a_paused_wrapper_stores_and_sends_nothing_until_somebody_resumes(
    online: MakeWrapper, emulator: Emulator
) -> None:
    async def program() -> None:
        wrapper = online()
        directory = Path(wrapper.status()["directory"])
        change = admin.pause(directory, reason="the table is rebuilt")
        assert (change.directory, change.table, change.before) == (directory, TABLE, None)
        assert change.now is not None
        assert datetime.now(UTC) - change.now.since_unix_micros < timedelta(minutes=1)
        await wrapper.send_batch(make_batch())
        with pytest.raises(PausedError, match="the table is rebuilt") as caught:
            await wrapper.flush()
        assert (caught.value.code, caught.value.retryable) == ("paused", True)
        status = wrapper.status()
        assert status["paused"] is not None
        assert status["paused"]["reason"] == "the table is rebuilt"
        assert status["lane"] is not None
        assert (status["lane"]["state"], status["rows"]["waiting"]) == ("paused", 3)
        told = await asyncio.to_thread(command, "status", directory)
        assert "paused" in told.stdout
        assert admin.resume(directory).now is None
        await wrapper.flush()
        assert wrapper.status()["paused"] is None

    asyncio.run(program())
    assert DeltaTable(emulator.table_path(TABLE)).count() == 3


def test_the_command_pauses_and_resumes_a_dead_log_with_json(offline: MakeWrapper, tmp_path: Path) -> None:
    wrapper = offline()
    asyncio.run(wrapper.send_batch(make_batch()))
    asyncio.run(wrapper.shutdown())
    paused = command("pause", tmp_path / "wal", "--reason", "wait", "--format", "json")
    assert paused.returncode == 0, paused.stderr
    document = json.loads(paused.stdout)
    assert document["version"] == 1
    (log,) = document["logs"]
    assert (log["owner_pid"], log["now"]["reason"], log["waiting_rows"]) == (None, "wait", 3)
    resumed = command("resume", tmp_path / "wal", "--format", "jsonl")
    (line,) = resumed.stdout.splitlines()
    assert json.loads(line)["now"] is None
    again = command("resume", tmp_path / "wal")
    assert again.returncode != 0
    assert "nobody owns the log" in again.stderr
    with pytest.raises(ConfigurationError, match="nobody owns the log"):
        admin.resume(log["directory"])


def test_what_is_kept_is_freed_and_a_dry_run_frees_nothing(online: MakeWrapper) -> None:
    wrapper = online(retain_delivered_secs=3600)
    directory = wrapper.status()["directory"]

    async def program() -> None:
        await wrapper.send_batch(make_batch())
        await wrapper.flush()

    asyncio.run(program())
    plan = admin.reclaim(directory, dry_run=True)
    assert (plan.executed, plan.freed_bytes) == (False, 0)
    (segment,) = plan.segments
    assert segment.is_freed
    assert "retained" in segment.reason
    assert wrapper.status()["retained_bytes"] > 0
    done = admin.reclaim(directory)
    assert (done.executed, done.segments) == (True, plan.segments)
    assert wrapper.status()["retained_bytes"] == 0
    asyncio.run(wrapper.shutdown())
    told = command("reclaim", directory, "--dry-run", "--format", "json")
    assert json.loads(told.stdout)["logs"][0]["executed"] is False


def test_orphans_are_named_and_given_to_those_who_live(
    offline: MakeWrapper, online: MakeWrapper, tmp_path: Path, emulator: Emulator
) -> None:
    assert admin.adopt(tmp_path) == []
    dead = [offline(**emulator.settings) for _ in range(2)]
    admin.pause(dead[0].status()["directory"])
    admin.pause(dead[1].status()["directory"])
    for wrapper in dead:
        asyncio.run(wrapper.send_batch(make_batch()))
        asyncio.run(wrapper.shutdown())
    for orphan in admin.adopt(tmp_path / "wal"):
        assert (orphan.table, orphan.waiting_rows, orphan.adopter_pid) == (TABLE, 3, None)
        assert orphan.left is not None
        assert "paused" in orphan.left
        admin.resume(orphan.directory)
    told = command("adopt", tmp_path / "wal")
    assert told.returncode != 0
    assert "zerobus-wal drain" in told.stdout
    living = online()
    admin.adopt(tmp_path / "wal")
    until(lambda: living.status()["adoption"]["drained_logs"] == 1, "adoption")
    asyncio.run(living.flush())
    assert DeltaTable(emulator.table_path(TABLE)).count() == 6


def test_a_log_that_has_lost_its_identity_is_mended_after_a_copy(offline: MakeWrapper) -> None:
    wrapper = offline()
    asyncio.run(wrapper.send_batch(make_batch()))
    asyncio.run(wrapper.shutdown())
    directory = Path(wrapper.status()["directory"])
    (directory / "LOG").write_text("lost")
    with pytest.raises(ConfigurationError, match="--endpoint"):
        admin.repair(directory)
    plan = admin.repair(directory, endpoint=UNREACHABLE)
    assert [step.action for step in plan.steps] == ["set_aside", "write_identity"]
    assert (plan.executed, plan.backup) == (False, None)
    assert (directory / "LOG").read_text() == "lost"
    told = command("repair", directory, "--endpoint", UNREACHABLE, "--execute", "--format", "json")
    assert told.returncode == 0, told.stderr
    (done,) = json.loads(told.stdout)["logs"]
    assert done["executed"]
    assert (Path(done["backup"]) / "LOG").read_text() == "lost"
    assert admin.repair(directory).steps == []


def test_what_waits_goes_to_the_table_under_its_new_name(
    offline: MakeWrapper, tmp_path: Path, emulator: Emulator
) -> None:
    new = f"{TABLE}_renamed"
    wrapper = offline()
    asyncio.run(wrapper.send_batch(make_batch()))
    with pytest.raises(LockedError):
        admin.remap(tmp_path / "wal", TABLE, new, execute=True)
    asyncio.run(wrapper.shutdown())
    with pytest.raises(ConfigurationError, match="not of the form"):
        admin.remap(tmp_path / "wal", TABLE, "no table")
    (plan,) = admin.remap(tmp_path / "wal", TABLE, new, endpoint=emulator.endpoint)
    assert (plan.before.table, plan.after.table, plan.executed) == (TABLE, new, False)
    assert plan.to == tmp_path / "wal" / new / "writer-001"
    (done,) = admin.remap(
        tmp_path / "wal",
        TABLE,
        new,
        endpoint=emulator.endpoint,
        unity_catalog_url=emulator.unity_catalog_url,
        execute=True,
    )
    assert done.executed
    assert admin.find_logs(tmp_path / "wal") == [done.to]
    emulator.sql(f"CREATE TABLE {new} (id BIGINT, name STRING)")
    drained = command("drain", done.to, "--client-id", "id", "--client-secret", "s3cret")
    assert drained.returncode == 0, drained.stderr
    assert DeltaTable(emulator.table_path(new)).count() == 3


def test_the_doctor_finds_nothing_where_delivery_works_and_names_what_is_wrong(
    tmp_path: Path, emulator: Emulator
) -> None:
    def look(**settings: str) -> admin.Examination:
        given = {
            "endpoint": emulator.endpoint,
            "table_name": TABLE,
            "unity_catalog_url": emulator.unity_catalog_url,
            "client_id": "id",
            "client_secret": "s3cret",
        }
        return admin.doctor(
            endpoint=(given | settings)["endpoint"],
            table_name=TABLE,
            unity_catalog_url=emulator.unity_catalog_url,
            client_id="id",
            client_secret=(given | settings)["client_secret"],
            wal_dir=tmp_path / "wal",
            wal_min_free_bytes=0,
        )

    good = look()
    assert good.verdict != "failed", good
    assert good.directory == tmp_path / "wal" / TABLE / "writer-001"
    assert {"settings", "disk", "sync", "dns", "tcp", "clock", "token", "catalog", "stream"} <= {
        finding.check for finding in good.findings
    }
    assert not (tmp_path / "wal").exists()
    for settings, check, code in [
        ({"client_secret": "another"}, "token", "authentication"),
        ({"endpoint": UNREACHABLE}, "tcp", "connection"),
        ({"endpoint": "http://nowhere.invalid"}, "dns", "connection"),
    ]:
        (failed,) = [finding for finding in look(**settings).findings if finding.verdict == "failed"]
        assert (failed.check, failed.code) == (check, code)
        assert failed.advice
        assert "s3cret" not in repr(failed)
    with pytest.raises(TypeError, match="no setting"):
        admin.doctor(tmp_path, colour="blue")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_the_doctor_takes_what_is_not_said_from_the_log_and_prints_json(
    offline: MakeWrapper, tmp_path: Path
) -> None:
    wrapper = offline()
    asyncio.run(wrapper.send_batch(make_batch()))
    asyncio.run(wrapper.shutdown())
    directory = tmp_path / "wal" / TABLE / "writer-001"
    found = admin.doctor(directory, offline=True, wal_min_free_bytes=0)
    assert (found.table, found.endpoint) == (TABLE, UNREACHABLE)
    assert found.findings[-1].check == "waiting"
    assert "3 rows in 1 frame wait" in found.findings[-1].found
    told = command("doctor", directory, "--format", "json")
    assert told.returncode == 11, told.stderr
    (examination,) = json.loads(told.stdout)["examinations"]
    assert examination["verdict"] == "failed"
