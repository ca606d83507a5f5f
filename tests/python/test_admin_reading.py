"""The verbs that read, and their twins in ``arrow_zerobus_sdk_wrapper.admin``.

Goal: both say the same, in shapes that are a contract, of live logs and of dead ones, whole or damaged; and
nothing that only reads changes anything. Method: the installed command and the installed package on logs of
real wrappers, of this process and of others, which are damaged byte by byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from arrow_zerobus_sdk_wrapper import (
    ConfigurationError,
    CorruptionError,
    StorageError,
    TransmissionError,
    ZerobusWrapper,
    admin,
)
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import DEADLINE_SECS, PYTHON, TABLE, MakeWrapper, make_batch, offline_settings, until
from snapshots import check_snapshot
from test_command import SCRIPT, command

HOLD = """
import asyncio, sys
from pathlib import Path
from arrow_zerobus_sdk_wrapper import ZerobusWrapper
from conftest import make_batch, offline_settings
with ZerobusWrapper(**offline_settings(Path(sys.argv[1]))) as wrapper:
    for number in range(3):
        asyncio.run(wrapper.send_batch(make_batch(number * 3)))
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """The writer directory of a log with three frames that nobody owns."""
    with ZerobusWrapper(**offline_settings(tmp_path)) as wrapper:
        for number in range(3):
            asyncio.run(wrapper.send_batch(make_batch(number * 3)))
        return Path(wrapper.status()["directory"])


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """The wal_dir of a log with three frames, and the process that owns it."""
    with subprocess.Popen(
        [*PYTHON, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield tmp_path / "wal", process.pid
            process.communicate(timeout=DEADLINE_SECS)
        finally:
            process.kill()


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("segment-*.wal"))


def flip(path: Path, offset: int) -> None:
    """Makes another byte of the one that stands there."""
    contents = bytearray(path.read_bytes())
    contents[offset] ^= 0x55
    path.write_bytes(contents)


def damage_second_frame(directory: Path) -> int:
    """Damages the body of a frame and returns its number."""
    (path,) = segments(directory)
    second = [piece for piece in admin.inspect_segment(path).pieces if piece.kind == "batch"][1]
    flip(path, second.offset + 100)
    assert second.lsn is not None
    return second.lsn


def tree(directory: Path) -> dict[str, tuple[str, int, int]]:
    """Every file below a directory: what is in it, its mode, and when it was changed."""
    found = {}
    for path in [directory, *directory.rglob("*")]:
        told = path.lstat()
        contents = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (hashlib.sha256(contents).hexdigest(), told.st_mode, told.st_mtime_ns)
    return found


def printed(*arguments: str | Path, code: int = 0) -> Any:
    done = command(*arguments, "--format", "json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


READING: dict[str, tuple[Callable[[Path], list[str | Path]], Callable[[Path], Any]]] = {
    "status": (lambda log: ["status", log], lambda log: {"logs": admin.status(log)}),
    "ls": (lambda log: ["ls", log], lambda log: {"logs": admin.ls(log)}),
    "inspect-segment": (
        lambda log: ["inspect", "segment", segments(log)[0]],
        lambda log: admin.inspect_segment(segments(log)[0]),
    ),
    "inspect-frame": (
        lambda log: ["inspect", "frame", "2", log, "--limit", "2"],
        lambda log: admin.inspect_frame(2, log).report,
    ),
    "inspect-ledger": (lambda log: ["inspect", "ledger", log], admin.inspect_ledger),
    "inspect-schema": (lambda log: ["inspect", "schema", log], admin.inspect_schema),
    "verify": (lambda log: ["verify", log], lambda log: {"logs": admin.verify(log)}),
}


@pytest.mark.parametrize("verb", READING)
def test_the_json_of_a_verb_is_a_contract(verb: str, dead: Path) -> None:
    report = printed(*READING[verb][0](dead))
    assert report["version"] == 1
    check_snapshot(verb, report, {str(dead): "<log>"})


def plain(value: Any) -> Any:
    """Dataclasses and paths as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in (it.name for it in dataclasses.fields(value))}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def same_shape(command_says: Any, python_says: Any, where: str) -> None:
    """What Python has of an object is what the command prints, and nothing of it is missing."""
    if isinstance(python_says, dict):
        left_out = {"version", "shown"} | {key for key, item in python_says.items() if item is None}
        assert set(command_says) - left_out == set(python_says) - left_out, where
        for key, item in python_says.items():
            if key in command_says:
                same_shape(command_says[key], item, f"{where}.{key}")
    elif isinstance(python_says, list):
        assert len(command_says) == len(python_says), where
        for index, item in enumerate(python_says):
            same_shape(command_says[index], item, f"{where}[{index}]")
    elif not where.endswith(("_secs", "free_bytes")):
        assert command_says == python_says, where


@pytest.mark.parametrize("verb", READING)
def test_command_and_package_say_the_same(verb: str, dead: Path) -> None:
    arguments, function = READING[verb]
    same_shape(printed(*arguments(dead)), plain(function(dead)), verb)


@pytest.mark.parametrize("verb", READING)
def test_what_only_reads_changes_nothing(verb: str, dead: Path) -> None:
    damage_second_frame(dead)
    for path in [dead, *dead.rglob("*")]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    before = tree(dead)
    try:
        for output in ("table", "json", "jsonl"):
            command(*READING[verb][0](dead), "--format", output)
        with contextlib.suppress(CorruptionError):
            READING[verb][1](dead)
        assert tree(dead) == before
    finally:
        dead.chmod(0o700)
        for path in dead.rglob("*"):
            path.chmod(0o700)


UNPRIVILEGED = """
import os, sys
from arrow_zerobus_sdk_wrapper import admin
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
(report,) = admin.verify(sys.argv[1])
print(report.is_sound, report.frames, report.findings)
print(admin.inspect_ledger(sys.argv[1]).settled.through, admin.inspect_frame(2, sys.argv[1]).report.state)
"""


def test_a_user_who_may_only_read_can_verify_and_inspect(dead: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        log = Path(temporary) / "log"
        shutil.copytree(dead, log, ignore=shutil.ignore_patterns("owner.sock"))
        Path(temporary).chmod(0o755)
        for path in [log, *log.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = tree(log)
        done = subprocess.run([*PYTHON, "-c", UNPRIVILEGED, log], capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.returncode) == ("True 3 []\n0 waiting\n", 0), done.stderr
        assert tree(log) == before
        for path in [log, *log.rglob("*")]:
            path.chmod(0o755)


def test_a_log_of_another_process_is_read_beside_it(live: tuple[Path, int]) -> None:
    wal_dir, pid = live
    (status,) = admin.status(wal_dir)
    assert (status.owner_pid, status.rows.waiting, status.poisoned) == (pid, 9, None)
    assert status.lane is not None
    (listed,) = admin.ls(wal_dir)
    assert (listed.owner_pid, listed.is_orphan, listed.waiting_rows) == (pid, False, 9)
    (verified,) = admin.verify(wal_dir)
    assert (verified.findings, verified.frames, verified.owner_pid) == ([], 3, pid)
    frame = admin.inspect_frame(2, wal_dir)
    assert (frame.report.state, frame.report.lsn) == ("waiting", 2)
    for _ in range(2):
        assert pa.record_batch(frame.batch).equals(make_batch(3))
    assert admin.inspect_ledger(wal_dir).settled == admin.inspect_ledger(listed.directory).settled
    (schema,) = admin.inspect_schema(wal_dir).schemas
    assert (schema.frames, schema.table_match) == (3, "unknown")
    (path,) = segments(listed.directory)
    segment = admin.inspect_segment(path)
    assert (segment.state, segment.frames, segment.is_damaged) == ("open", 3, False)


def test_damage_is_found_and_explained_and_hides_nothing_else(dead: Path) -> None:
    lsn = damage_second_frame(dead)
    (report,) = admin.verify(dead)
    assert (report.is_sound, report.frames) == (False, 2)
    (finding,) = report.findings
    assert (finding.kind, finding.severity, finding.lsns) == ("body", "error", admin.Run(lsn, lsn))
    assert finding.segment == segments(dead)[0]
    done = command("verify", dead)
    assert done.returncode == 22
    assert finding.advice in done.stdout and "damaged" in done.stderr
    assert printed("verify", dead, code=22)["logs"][0]["findings"][0]["kind"] == "body"

    with pytest.raises(CorruptionError) as raised:
        admin.inspect_frame(lsn, dead)
    assert raised.value.lsn == lsn
    assert admin.inspect_frame(lsn + 1, dead).report.rows == 3
    assert command("inspect", "frame", str(lsn), dead).returncode == 22
    segment = admin.inspect_segment(segments(dead)[0])
    assert segment.is_damaged
    assert [piece.lsn for piece in segment.pieces if piece.checksum_ok is False] == [lsn]
    assert command("inspect", "segment", segments(dead)[0]).returncode == 22


def test_a_log_that_cannot_be_read_stands_in_the_list_with_its_reason(dead: Path) -> None:
    (dead.parent / "writer-007" / "LOG").mkdir(parents=True)
    good, bad = admin.ls(dead.parent)
    assert (good.reason, bad.writer, bad.code) == (None, "writer-007", "storage")
    assert bad.reason is not None and "LOG" in bad.reason
    listed = command("ls", dead.parent)
    assert listed.returncode == 20
    assert dead.name in listed.stdout and "cannot be read" in listed.stdout
    shown = command("status", dead.parent)
    assert shown.returncode == 20 and dead.name in shown.stdout
    assert command("verify", dead.parent).returncode == 20
    assert printed("status", dead.parent, "--check", code=3)["violations"][-1]["kind"] == "unreadable"
    with pytest.raises(StorageError):
        admin.status(dead.parent)


def test_what_is_not_there_is_said_with_what_to_give(dead: Path, tmp_path: Path) -> None:
    for arguments, text in [
        (["inspect", "frame", "99", str(dead)], "holds 1 to 3"),
        (["inspect", "segment", str(dead / "LOG")], "segment-0000000000000001.wal"),
        (["inspect", "segment", str(dead)], "segment-0000000000000001.wal"),
        (["inspect", "ledger", str(tmp_path / "wal" / "none")], "none"),
        (["ls", str(dead / "quarantine")], "quarantine"),
        (["verfy", str(dead)], "verify"),
        (["status", str(dead), "--max-age", "soon", "--check"], "500ms, 30s"),
        (["status", str(dead), "--max-age", "5s"], "--check"),
        (["status", str(dead), "--watch", "--interval", "1ms"], "100ms"),
    ]:
        done = command(*arguments)
        assert done.returncode != 0 and text in done.stderr, (arguments, done.stderr)
    with pytest.raises(ConfigurationError, match="holds 1 to 3"):
        admin.inspect_frame(99, dead)


def test_a_probe_says_what_is_violated_and_ends_with_3(live: tuple[Path, int]) -> None:
    wal_dir, _ = live
    fine = command(
        "status", wal_dir, "--check", "--max-age", "1h", "--max-depth", "9", "--max-quarantine", "0"
    )
    assert (fine.returncode, fine.stdout) == (0, "ok: 1 log, 9 rows wait\n"), fine.stderr
    assert admin.check(wal_dir, max_age_secs=3600, max_depth=9).is_ok
    for limit, kind in [(["--max-age", "0"], "age"), (["--max-depth", "8"], "depth")]:
        violated = command("status", wal_dir, "--check", *limit)
        assert violated.returncode == 3
        assert len(violated.stdout.splitlines()) == 1
        (told,) = printed("status", wal_dir, "--check", *limit, code=3)["violations"]
        assert told["kind"] == kind
    (depth,) = admin.check(wal_dir, max_depth=8).violations
    assert (depth.kind, depth.text) == ("depth", "9 rows wait, 8 are allowed")


def test_an_orphan_with_rows_and_a_damaged_log_are_violations_whatever_the_limits_are(dead: Path) -> None:
    (told,) = printed("status", dead, "--check", code=3)["violations"]
    assert told["kind"] == "orphan" and "zerobus-wal drain" in told["text"]
    check_snapshot("status-check", printed("status", dead, "--check", code=3), {str(dead): "<log>"})
    (path,) = segments(dead)
    path.write_bytes(path.read_bytes()[:-4096])
    flip(path, 100)
    kinds = [it["kind"] for it in printed("status", dead, "--check", code=3)["violations"]]
    assert "damage" in kinds
    lines = command("status", dead, "--check", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == kinds


def test_a_probe_that_looks_where_no_log_is_does_not_say_ok(tmp_path: Path) -> None:
    assert command("status", tmp_path, "--check").returncode == 2
    with pytest.raises(ConfigurationError):
        admin.check(tmp_path)


def read_until(descriptor: int, text: bytes) -> bytes:
    """What a terminal gets, until this stands there."""
    seen = b""
    deadline = time.monotonic() + DEADLINE_SECS
    while text not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([descriptor], [], [], 0.1)[0]:
            try:
                seen += os.read(descriptor, 65536)
            except OSError:
                break
    return seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watching_on_a_terminal_takes_its_screen_and_gives_it_back(
    live: tuple[Path, int], number: signal.Signals
) -> None:
    wal_dir, pid = live
    terminal, end = pty.openpty()
    command_line = [str(SCRIPT), "status", str(wal_dir), "--watch", "--interval", "100ms"]
    with subprocess.Popen(command_line, stdin=end, stdout=end, stderr=subprocess.PIPE) as process:
        try:
            os.close(end)
            seen = read_until(terminal, b"depth")
            assert seen.startswith(b"\x1b[?1049h\x1b[?25l")
            seen += read_until(terminal, b"rows/s")
            assert f"pid {pid}".encode() in seen and b"9 rows" in seen
            process.send_signal(number)
            rest = read_until(terminal, b"\x1b[?1049l")
            assert rest.endswith(b"\x1b[?25h\x1b[?1049l")
            process.wait(timeout=DEADLINE_SECS)
        finally:
            process.kill()
            os.close(terminal)
    assert process.returncode == 0


def test_watching_without_a_terminal_prints_again_and_again_until_nobody_reads(
    live: tuple[Path, int],
) -> None:
    wal_dir, _ = live
    command_line = [str(SCRIPT), "status", str(wal_dir), "--watch", "--interval", "0.1", "--format", "jsonl"]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            told = [json.loads(process.stdout.readline()) for _ in range(3)]
            assert [it["rows"]["waiting"] for it in told] == [9, 9, 9]
            process.stdout.close()
            process.wait(timeout=DEADLINE_SECS)
            assert (process.returncode, process.stderr.read()) == (0, "")
        finally:
            process.kill()


def test_no_verb_minds_a_reader_that_goes_away_and_none_colours_a_pipe(dead: Path) -> None:
    verbs = [READING[verb][0](dead) for verb in READING]
    verbs += [["status", dead, "--check"], ["config", "show"], ["completions", "bash"], ["exit-codes"]]
    for verb in verbs:
        line = " ".join(map(str, verb))
        shell = f"{SCRIPT} {line} | true; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60)
        expected = 3 if "--check" in line else 0
        assert (done.returncode, done.stderr) == (expected, ""), line
        assert "\x1b" not in command(*verb).stdout, line


def test_no_color_is_honoured_on_a_terminal() -> None:
    for environment, has_colour in [({}, True), ({"NO_COLOR": "1"}, False)]:
        terminal, end = pty.openpty()
        with subprocess.Popen(
            [SCRIPT, "no-such-verb"], stdout=end, stderr=end, env=os.environ | {"TERM": "xterm"} | environment
        ) as process:
            os.close(end)
            seen = read_until(terminal, b"--help")
            process.wait(timeout=DEADLINE_SECS)
        os.close(terminal)
        assert (b"\x1b[" in seen) == has_colour, seen


def test_the_exit_codes_are_told_by_the_help() -> None:
    codes = printed("exit-codes")["exit_codes"]
    check_snapshot("exit-codes", printed("exit-codes"), {})
    text = command("--help").stdout
    for code in codes:
        assert f"{code['code']}  {code['name']}" in text
    assert "22  corruption" in command("help", "exit-codes").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_completions_of_every_verb(shell: str) -> None:
    done = command("completions", shell)
    assert done.returncode == 0, done.stderr
    for verb in ("status", "ls", "inspect", "verify", "config", "drain"):
        assert verb in done.stdout
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=done.stdout, capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0, checked.stderr


def test_settings_are_shown_with_who_gave_them_and_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "zerobus.toml"
    file.write_text('client_secret = "hunter2"\nwal_max_bytes = "2GiB"\ntable_name = "a.b.c"\n')
    file.chmod(0o600)
    environment = {"ARROW_ZEROBUS_WAL_MAX_BYTES": "3GiB", "ZEROBUS_ENDPOINT": "http://127.0.0.1:9"}
    done = command("config", "show", "--sources", "--settings", file, **environment)
    assert done.returncode == 0, done.stderr
    assert "ARROW_ZEROBUS_WAL_MAX_BYTES" in done.stdout and f"{file}:3" in done.stdout
    shown = command("config", "show", "--settings", file, "--format", "json", **environment)
    settings = {it["name"]: it for it in json.loads(shown.stdout)["settings"]}
    size = settings["wal_max_bytes"]
    assert (size["value"], size["source"]) == (3 * 1024**3, "environment")
    assert settings["client_secret"]["value"] == "********"
    assert "hunter2" not in done.stdout + done.stderr + shown.stdout + shown.stderr
    names = {it["name"]: {**it, "value": None} for it in settings.values()}
    check_snapshot("config-show", {"version": 1, "settings": list(names.values())}, {str(tmp_path): "<tmp>"})


def test_settings_are_checked_as_a_wrapper_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "zerobus.toml"
    file.write_text('endpoint = "http://127.0.0.1:9"\ntable_name = "a.b.c"\nstreams = 2\n')
    assert command("config", "check", "--settings", file).returncode == 0
    admin.config_check(file)
    file.write_text('endpoint = "http://127.0.0.1:9"\ntable_name = "a.b.c"\nstreams = 0\n')
    done = command("config", "check", "--settings", file)
    assert done.returncode == 2
    with pytest.raises(ConfigurationError) as raised:
        admin.config_check(file)
    assert raised.value.setting == "streams"
    assert f"line 3 of {file}" in str(raised.value)
    assert str(raised.value) in done.stderr
    with pytest.raises(ConfigurationError) as constructed:
        ZerobusWrapper.from_file(file)
    assert str(raised.value) in str(constructed.value)
    monkeypatch.setenv("ARROW_ZEROBUS_STREAMS", "3")
    (streams,) = [it for it in admin.config_show(file) if it.name == "streams"]
    assert (streams.value, streams.source, streams.origin) == (3, "environment", "ARROW_ZEROBUS_STREAMS")


def test_what_the_core_warns_of_goes_to_stderr(tmp_path: Path) -> None:
    file = tmp_path / "zerobus.toml"
    file.write_text('client_secret = "hunter2"\n')
    file.chmod(0o644)
    done = command("config", "show", "--settings", file)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: everybody on this machine can read a secret")
    assert "hunter2" not in done.stderr
    file.chmod(0o600)
    assert command("config", "show", "--settings", file).stderr == ""


def test_a_log_of_this_process_is_read_too(offline: MakeWrapper) -> None:
    wrapper = offline()
    asyncio.run(wrapper.send_batch(make_batch()))
    directory = Path(wrapper.status()["directory"])
    (status,) = admin.status(directory)
    assert (status.table, status.owner_pid) == (TABLE, os.getpid())
    told = wrapper.status()
    assert {it.name for it in dataclasses.fields(status)} == set(told) - {"version"}
    assert status.lane is not None and told["lane"] is not None
    assert {it.name for it in dataclasses.fields(status.lane)} == set(told["lane"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.table = "another"  # type: ignore[misc]
    assert [report.findings for report in admin.verify(directory)] == [[]]


STREAMING = """
import asyncio, sys
from arrow_zerobus_sdk_wrapper import ZerobusWrapper
from conftest import TABLE, make_batch
async def main() -> None:
    async with ZerobusWrapper(
        sys.argv[1], TABLE, client_id="id", client_secret="s3cret",
        unity_catalog_url=sys.argv[2], wal_dir=sys.argv[3],
        segment_bytes=2**20, retain_delivered_bytes=2**24, request_max_bytes=2048, streams=int(sys.argv[4]),
    ) as wrapper:
        for number in range(10**9):
            await wrapper.send_batch(make_batch(number * 50, 50))
            if number % 100 == 0:
                print(wrapper.status()["rows"]["delivered"], flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("streams", [1, 4])
def test_a_process_that_is_killed_while_it_delivers_leaves_a_log_that_is_sound(
    streams: int, emulator: Emulator, tmp_path: Path
) -> None:
    wal_dir = tmp_path / "wal"
    for kill in range(3):
        with subprocess.Popen(
            [*PYTHON, "-c", STREAMING, emulator.endpoint, emulator.unity_catalog_url, wal_dir, str(streams)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                before = int(process.stdout.readline())
                while int(process.stdout.readline()) < before + 5_000:
                    pass
                (beside,) = admin.verify(wal_dir)
                assert (beside.findings, beside.owner_pid) == ([], process.pid), kill
            finally:
                process.kill()
        (report,) = admin.verify(wal_dir)
        assert report.is_sound, report.findings
        assert {finding.kind for finding in report.findings} <= {"torn_tail"}, report.findings
        assert report.last_lsn > report.settled_lsn > 0


def test_of_a_log_that_has_delivered_and_refused_rows_everything_is_told(tmp_path: Path) -> None:
    columns = "id BIGINT, value INT"
    with (
        Emulator(data_dir=tmp_path / "tables", tables={TABLE: columns}) as emulator,
        ZerobusWrapper(
            table_name=TABLE, wal_dir=tmp_path / "wal", retain_delivered_bytes=2**24, **emulator.settings
        ) as wrapper,
    ):
        until(lambda: wrapper.status()["table_schema"]["columns"] == 2, "the columns")
        for values in ([1, 2, 3], [1, 2**40, 3], [2**40, 2**41, 2**42]):
            ids = pa.array([1, 2, 3], pa.int64())
            batch = pa.record_batch({"id": ids, "value": pa.array(values, pa.int64())})
            asyncio.run(wrapper.send_batch(batch))
        with pytest.raises(TransmissionError, match="4 rows"):
            asyncio.run(wrapper.flush(timeout=60))
        log = Path(wrapper.status()["directory"])
    assert [report.findings for report in admin.verify(log)] == [[]]
    frames = [admin.inspect_frame(lsn, log).report for lsn in (1, 2, 3)]
    assert [frame.state for frame in frames] == ["delivered", "delivered", "quarantined"]
    assert [frame.quarantined_rows for frame in frames] == [[], [admin.Run(1, 1)], [admin.Run(0, 2)]]
    ledger = admin.inspect_ledger(log)
    assert (ledger.settled.through, ledger.delivered_rows, ledger.quarantined.rows) == (3, 5, 4)
    assert ledger.table is not None and [it.type for it in ledger.table.columns] == ["BIGINT", "INT"]
    (schema,) = admin.inspect_schema(log).schemas
    assert schema.table_match == "fits"
    (told,) = admin.check(log, max_quarantine=1).violations
    assert told.kind == "quarantine"
    (file, *_) = sorted((log / "quarantine").glob("*.arrow"))
    flip(file, file.stat().st_size - 200)
    (report,) = admin.verify(log)
    assert [(it.kind, it.severity, it.segment) for it in report.findings] == [("quarantine", "error", file)]
