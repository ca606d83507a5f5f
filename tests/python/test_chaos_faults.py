"""Goal: the faults of the chaos suite are the faults that they say they are.

Method: each tool is turned on a few lines of Python that know nothing of the log, and what happened is read
from the file system. What needs root says so when it is skipped; where `CI` is set, a skip is a failure.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

CHAOS = Path(__file__).parents[2] / "chaos-tests"
sys.path.insert(0, str(CHAOS))

from chaos.faults import limits, memory, mounts  # noqa: E402
from chaos.faults.intercept import (  # noqa: E402
    EVERYTHING,
    FOREVER,
    Action,
    Intercept,
    Operation,
    Rule,
)
from chaos.faults.mounts import MIB  # noqa: E402
from chaos.faults.preload import Clock  # noqa: E402


def skip(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"cannot be tested here, which counts as a failure in CI: {reason}")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def a_compiler() -> None:
    if shutil.which("cc") is None:
        skip("no cc; install a C compiler")


WRITER = """
import os, sys
file = os.open(sys.argv[1] + "/segment-1", os.O_RDWR | os.O_CREAT)
for number in range(4):
    for name, operation in (
        ("write", lambda: os.pwritev(file, [b"ab" * 8, b"cd" * 8], number * 32, os.RWF_DSYNC)),
        ("sync", lambda: os.fsync(file)),
    ):
        try:
            print(name, number, operation(), flush=True)
        except OSError as error:
            print(name, number, error.errno, flush=True)
os.rename(sys.argv[1] + "/segment-1", sys.argv[1] + "/renamed")
"""


class Writer:
    """Runs the lines above under an interceptor."""

    def __init__(self, directory: Path) -> None:
        self.files = directory / "files"
        self.files.mkdir()
        self.intercept = Intercept(directory / "control", self.files)

    def run(self) -> tuple[int, list[str]]:
        command = [*self.intercept.prefix(), sys.executable, "-c", WRITER, str(self.files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    def sizes(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self.files.iterdir()}


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


def test_without_a_rule_everything_happens_and_is_counted(writer: Writer) -> None:
    assert writer.run() == (
        0,
        [f"{name} {n} {r}" for n in range(4) for name, r in (("write", 32), ("sync", None))],
    )
    assert writer.sizes() == {"renamed": 128}
    counts = {kind: writer.intercept.count(kind) for kind in Operation}
    assert {kind: number for kind, number in counts.items() if number} == {
        Operation.DURABLE_WRITE: 4,
        Operation.SYNC: 4,
        Operation.CREATE: 1,
        Operation.RENAME: 1,
    }


def test_one_operation_fails_with_the_given_error_and_what_comes_to_that_file_afterwards_is_noticed(
    writer: Writer,
) -> None:
    writer.intercept.set_rules(
        Rule((Operation.DURABLE_WRITE,), Action.FAIL, 2, 2, error=errno.ENOSPC, bytes=5)
    )
    status, lines = writer.run()
    assert (status, lines[2]) == (0, f"write 1 {errno.ENOSPC}")
    assert lines[3:5] == ["sync 1 None", "write 2 32"]
    assert (writer.files / "renamed").read_bytes()[32:64] == b"ababa" + bytes(27)
    assert (writer.intercept.seen(), writer.intercept.hits(), writer.intercept.failed_files) == (4, 1, 1)
    assert writer.intercept.touched == 5
    assert writer.intercept.touched_path == f"{writer.files}/segment-1"


def test_counters_go_on_over_restarts(writer: Writer) -> None:
    writer.intercept.set_rules(Rule((Operation.SYNC,), Action.FAIL, 6, FOREVER))
    assert all("sync" not in line or line.endswith("None") for line in writer.run()[1])
    assert writer.run()[1][3] == f"sync 1 {errno.EIO}"


def test_a_torn_write_leaves_its_first_bytes_and_no_process(writer: Writer) -> None:
    writer.intercept.set_rules(Rule((Operation.DURABLE_WRITE,), Action.KILL, 3, bytes=7))
    status, lines = writer.run()
    assert (status, lines[-1], writer.sizes()) == (-signal.SIGKILL, "sync 1 None", {"segment-1": 64 + 7})


def test_a_short_write_says_how_short_it_was(writer: Writer) -> None:
    writer.intercept.set_rules(Rule((Operation.DURABLE_WRITE,), Action.SHORTEN, 4, 4, bytes=5))
    assert "write 3 5" in writer.run()[1]
    assert writer.sizes() == {"renamed": 96 + 5}


def test_a_process_dies_after_an_operation_that_has_happened(writer: Writer) -> None:
    writer.intercept.set_rules(Rule((Operation.RENAME,), Action.KILL, bytes=EVERYTHING))
    assert writer.run()[0] == -signal.SIGKILL
    assert writer.sizes() == {"renamed": 128}
    assert writer.intercept.trouble == 0


def test_a_slow_sync_holds_up_as_long_as_it_should(writer: Writer) -> None:
    writer.intercept.set_rules(Rule((Operation.SYNC,), Action.DELAY, 1, 2, delay_ms=150))
    script = f"import time; t = time.monotonic()\n{WRITER}\nprint(time.monotonic() - t)"
    command = [*writer.intercept.prefix(), sys.executable, "-c", script, str(writer.files)]
    took = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    assert took >= 0.3


def test_the_time_of_day_jumps_and_stands_still_and_the_monotonic_clock_does_not(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    script = "import time; print(time.time(), time.time_ns(), time.monotonic())"

    def told() -> tuple[float, int, float]:
        environment = os.environ | clock.environment()
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        now, now_ns, monotonic = done.stdout.split()
        return float(now), int(now_ns), float(monotonic)

    before = told()
    clock.shift(-86_400)
    shifted = told()
    assert -86_400 <= shifted[0] - before[0] < -86_300
    assert 0 < shifted[2] - before[2] < 100
    clock.jump_to(2**31 + 5)
    assert 2**31 + 5 <= told()[0] < 2**31 + 100
    clock.freeze()
    frozen = told()
    assert frozen[0] == frozen[1] / 1e9 == told()[0]
    clock.heal()
    assert 0 < told()[0] - before[0] < 100
    assert clock.asked > 0


def test_limits_are_those_that_were_asked_for() -> None:
    if (reason := limits.missing()) is not None:
        skip(reason)
    script = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE)[0], r.getrlimit(r.RLIMIT_FSIZE)[0])"
    command = [*limits.prefix(open_files=123, file_bytes=4096), sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "123 4096\n"


def test_a_process_that_needs_more_than_its_memory_is_killed_and_counted() -> None:
    if (reason := memory.missing()) is not None:
        skip(reason)
    with memory.MemoryLimit(f"chaos-self-test-{os.getpid()}", 64 * MIB) as group:
        command = [*group.prefix(), sys.executable, "-c", f"bytearray({200 * MIB})"]
        assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
        assert group.kills() == 1


@pytest.fixture
def as_root(tmp_path: Path) -> Callable[[str], None]:
    """Runs lines of Python in a mount namespace of their own."""

    def run(code: str) -> None:
        if (reason := mounts.cannot_mount()) is not None:
            skip(reason)
        head = """
            import os, sys
            from pathlib import Path
            from chaos.faults.blockdev import BlockDevice
            from chaos.faults.mounts import MIB, Mount, enter_private_namespace, make_image
            from chaos.faults.power_cut import PowerCut
            enter_private_namespace()
            here = Path(sys.argv[1])
            def write(path, content, sync):
                file = os.open(path, os.O_RDWR | os.O_CREAT)
                os.pwrite(file, content, 0)
                if sync:
                    os.fsync(file)
                os.close(file)
        """
        script = textwrap.dedent(head) + textwrap.dedent(code)
        environment = os.environ | {"PYTHONPATH": str(CHAOS)}
        command = [sys.executable, "-c", script, str(tmp_path)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr

    return run


def need_mkfs(kind: str) -> None:
    if shutil.which(f"mkfs.{kind}") is None:
        skip(f"no mkfs.{kind}; install {'xfsprogs' if kind == 'xfs' else 'btrfs-progs'}")


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_power_cut_takes_what_was_not_synced_and_nothing_else(
    kind: str, as_root: Callable[[str], None]
) -> None:
    need_mkfs(kind)
    as_root(f"""
        power = PowerCut(here / "power", {kind!r})
        with power.mount as mount:
            write(mount.directory / "synced", b"x" * 5000, True)
            write(mount.directory / "not-synced", b"y" * 5000, False)
            power.cut()
            try:
                write(mount.directory / "late", b"z", True)
                raise AssertionError("the power is still there")
            except OSError:
                pass
            power.restore()
            assert (mount.directory / "synced").read_bytes() == b"x" * 5000
            lost = mount.directory / "not-synced"
            assert not lost.exists() or b"y" not in lost.read_bytes(), "nothing was lost"
            assert not (mount.directory / "late").exists()
    """)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_disk_loses_its_cache_lies_and_fails_as_it_is_told(
    kind: str, as_root: Callable[[str], None]
) -> None:
    need_mkfs(kind)
    as_root(f"""
        with BlockDevice(here / "device", {kind!r}) as device:
            top = device.mount.directory
            write(top / "synced", b"x" * 5000, True)
            assert device.cut(0, 1).flushes > 0
            device.restore()
            assert (top / "synced").read_bytes() == b"x" * 5000

            file = os.open(top / "gate", os.O_RDWR | os.O_CREAT)
            os.pwrite(file, b"A" * 4096, 0)
            os.fsync(file)
            os.pwrite(file, b"B" * 4096, 0)
            device.fail_write(1)
            said = []
            for _ in range(2):
                try:
                    os.fsync(file)
                    said.append("fine")
                except OSError as error:
                    said.append(error.errno)
            # The page cache shows what the disk has not, and the second sync says that all is well.
            assert said == [{errno.EIO}, "fine"], said
            assert os.pread(file, 1, 0) == b"B"
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(file, 1, 0) == b"A"
            assert device.counts().injected == 1
            os.close(file)

            # Whatever such a disk leaves: a file without its content, none, or nothing that can be mounted.
            device.lie()
            write(top / "lied", b"y" * 5000, True)
            assert device.cut(0, 1).taken > 0
            device.heal()
            try:
                device.restore()
                content = (top / "lied").read_bytes()
            except (OSError, RuntimeError):
                content = None
            assert content != b"y" * 5000
    """)


def test_bytes_and_inodes_run_out_and_come_back(as_root: Callable[[str], None]) -> None:
    as_root("""
        make_image(here / "image", "ext4", 8 * MIB)
        for mount in (
            Mount(here / "tmpfs", "tmpfs", options="size=1m,nr_inodes=50"),
            Mount(here / "ext4", "ext4", here / "image"),
        ):
            with mount:
                ballast = mount.fill()
                assert mount.free_bytes() < 4096
                ballast.unlink()
                assert mount.free_bytes() > MIB // 2
                mount.use_up_inodes()
                assert os.statvfs(mount.directory).f_favail == 0
                mount.remount("ro")
                try:
                    (mount.directory / "late").touch()
                    raise AssertionError("it can still be written")
                except OSError:
                    pass
    """)
