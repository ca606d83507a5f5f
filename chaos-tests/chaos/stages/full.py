"""A disk without space refuses rows and loses none; the log drains with no byte free, and goes on.

Method: the log is on a small file system of its own. The service is away; a victim sends until it is refused
or waits, somebody else takes the rest of the disk, the victim is killed. Its successor opens the log on the
full disk. Then the service comes back, and the log must drain without anybody making room; then rows are
taken again. What differs: tmpfs and ext4; bytes and inodes; rows that are refused by the table, so that
quarantine needs space too; exactly-once delivery, whose records need space before anything is sent; and
`growing`, where the disk is full and free again every moment, so that every kind of write meets it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from functools import partial
from typing import Any

from ..faults.mounts import MIB, Kind, Mount, make_image
from ..stage import Need, Stage
from ..trial import Trial
from ..victims.victim import Victim
from .power_cut import kind_of_victim

SIZE_BYTES = 12 * MIB
PATIENCE_SECS = 20.0
# With one request of 4 KiB at a time, which may be drawn, a full disk took 45 s.
DRAIN_SECS = 120.0
# Beside each log there are reserves for the ledger and the quarantine; a segment must fit as well.
SEGMENT_BYTES = 256 << 10
FULL: dict[str, Any] = {
    "wait_for": "stored",
    "durability": "sync",
    "segment_bytes": SEGMENT_BYTES,
    "wal_min_free_bytes": 0,
    "on_full": "block",
    "block_timeout_secs": 0.05,
    "retain_delivered_bytes": 0,
    "shutdown_timeout_secs": 0,
}


def small_disk(trial: Trial, kind: Kind, *mkfs: str, options: str = "") -> Mount:
    """A file system of a few megabytes."""
    if kind == "tmpfs":
        return Mount(trial.directory / "disk", kind, options=options or f"size={SIZE_BYTES}")
    image = trial.directory / "disk.img"
    make_image(image, kind, SIZE_BYTES, *mkfs)
    return Mount(trial.directory / "disk", kind, image, options)


def send_until_refused(trial: Trial, victim: Victim) -> None:
    """Waits until the victim is refused, for want of space and with a promise kept before.

    Raises:
        AssertionError: It is not, or for another reason.
    """
    victim.wait_for("ack")
    refused = victim.wait_for("refused", times=3, timeout=PATIENCE_SECS)
    if refused is None:
        raise AssertionError(f"the victim ended by itself on a full disk; {victim.complaints()}")
    trial.count(
        "refusals on a full disk", sum(batch.refused is not None for batch in victim.life.batches.values())
    )
    if refused["error"] != "BufferFullError":
        raise AssertionError(f"the full disk is refused as {refused}")


def drain_without_room(trial: Trial, mount: Mount, options: Any) -> None:
    """Drains the log as it is.

    Raises:
        AssertionError: It does not drain.
    """
    before = mount.free_bytes()
    victim = trial.victim(replace(options, producers=0, api="async"), wal_dir=mount.directory / "wal")
    victim.command("drain")
    if victim.wait_for("drained", timeout=DRAIN_SECS) is None:
        raise AssertionError(f"R12: it does not drain with {before} bytes free: {victim.life.events[-2:]}")
    trial.count("drained with less than a block free", int(before < 4096))
    victim.close()


def accepts_again(trial: Trial, mount: Mount, options: Any) -> None:
    """Sends rows to a log that was full, and is not any more."""
    victim = trial.victim(options, wal_dir=mount.directory / "wal", kind="rust")
    victim.wait_for("ack", times=5)
    trial.kill(victim)


def run_bytes(trial: Trial, kind: Kind, *, delivery: str = "at_least_once", bad_rows: int = 0) -> None:
    """No bytes left."""
    service = trial.service()
    service.kill()
    with small_disk(trial, kind) as mount, trial.kept(mount.directory):
        options = trial.options(**FULL, delivery=delivery)
        if bad_rows:
            options = replace(options.with_settings(validate="off"), bad_rows=bad_rows)
        # Large enough to come to the end of the disk soon.
        options = replace(options, rows=(100, 500), producers=2)
        victim = trial.victim(options, wal_dir=mount.directory / "wal")
        send_until_refused(trial, victim)
        mount.fill()
        trial.kill(victim)
        # The recovery finds no room either; it may cut what was not written, and that is taken too.
        again = trial.victim(options, wal_dir=mount.directory / "wal", kind=kind_of_victim(1))
        if again.wait_for("open", timeout=PATIENCE_SECS) is None:
            raise AssertionError(f"the log does not open on a full disk: {again.life.events[-1]}")
        again.wait_for("refused", timeout=PATIENCE_SECS)
        trial.kill(again)
        mount.fill()
        service.start()
        drain_without_room(trial, mount, options)
        accepts_again(trial, mount, options)
        trial.finish(mount.directory / "wal", settings={"wal_min_free_bytes": 0})


def run_inodes(trial: Trial, kind: Kind) -> None:
    """No inodes left, and then some."""
    trial.service()
    mkfs = () if kind == "tmpfs" else ("-N", "64")
    with (
        small_disk(trial, kind, *mkfs, options="size=64m,nr_inodes=64" if kind == "tmpfs" else "") as mount,
        trial.kept(mount.directory),
    ):
        options = trial.options(**{**FULL, "segment_bytes": 64 << 10})
        options = replace(options, rows=(50, 200))
        victim = trial.victim(options, wal_dir=mount.directory / "wal")
        victim.wait_for("ack", times=3)
        ballast = mount.use_up_inodes()
        # It goes on until it needs a new file; a recycled one needs no inode.
        said = victim.acknowledged
        deadline = time.monotonic() + 3.0
        while victim.heard("refused") is None and victim.is_running and time.monotonic() < deadline:
            time.sleep(0.01)
        trial.count("batches acknowledged without inodes", victim.acknowledged - said)
        trial.count("refusals without inodes", int(victim.heard("refused") is not None))
        trial.kill(victim)
        again = trial.victim(options, wal_dir=mount.directory / "wal")
        again.wait_for("open", timeout=PATIENCE_SECS)
        trial.count("openings without inodes that failed", int(again.heard("failed") is not None))
        again.kill()
        for path in ballast.iterdir():
            path.unlink()
        accepts_again(trial, mount, options)
        trial.finish(mount.directory / "wal", settings={"wal_min_free_bytes": 0})


def run_growing(trial: Trial, kind: Kind) -> None:
    """Full and free, full and free, while rows are taken, delivered and refused."""
    trial.service()
    with small_disk(trial, kind) as mount, trial.kept(mount.directory):
        for number in range(4):
            options = trial.options(**FULL).with_settings(validate="off")
            options = replace(options, rows=(20, 300), bad_rows=trial.random.choice([0, 3]))
            victim = trial.victim(options, wal_dir=mount.directory / "wal", kind=kind_of_victim(number))
            victim.wait_for("opening")
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline:
                leave = trial.random.choice([0, 4096, 64 << 10, 1 * MIB, 3 * MIB])
                with contextlib.suppress(OSError):
                    mount.fill(leave).unlink()
                trial.count("times the disk was full", int(leave == 0))
                time.sleep(trial.random.random() * 0.02)
            victim.kill()
        accepts_again(trial, mount, trial.options(**FULL))
        trial.finish(mount.directory / "wal", settings={"wal_min_free_bytes": 0})


_ON_TMPFS = frozenset({Need.ROOT, Need.RUST_VICTIM})
_ON_EXT4 = frozenset({Need.ROOT, Need.LOOP, Need.EXT4, Need.RUST_VICTIM})


def _stage(name: str, fault: str, needs: frozenset[Need], trials: int, run: Any, **how: Any) -> Stage:
    return Stage(
        name=name,
        rows=(12, 13, 29) if "inodes" in name else (12, 29),
        fault=fault,
        promise="a typed refusal; what is stored is delivered with no byte free; then rows are taken again",
        proof="a small file system of its own; announcements compared with the table",
        needs=needs,
        trials=trials,
        run=partial(run, **how),
    )


STAGES = (
    _stage(
        "full-tmpfs", "the disk is full (tmpfs), after a crash too", _ON_TMPFS, 1, run_bytes, kind="tmpfs"
    ),
    _stage("full-ext4", "the disk is full (ext4), after a crash too", _ON_EXT4, 1, run_bytes, kind="ext4"),
    _stage(
        "full-quarantine",
        "the disk is full, and rows must go to quarantine",
        _ON_EXT4,
        1,
        run_bytes,
        kind="ext4",
        bad_rows=4,
    ),
    _stage(
        "full-exactly-once",
        "the disk is full, with exactly-once delivery",
        _ON_TMPFS,
        1,
        run_bytes,
        kind="tmpfs",
        delivery="exactly_once",
    ),
    _stage("full-inodes-tmpfs", "no inodes are left (tmpfs)", _ON_TMPFS, 1, run_inodes, kind="tmpfs"),
    _stage("full-inodes-ext4", "no inodes are left (ext4)", _ON_EXT4, 1, run_inodes, kind="ext4"),
    _stage(
        "full-and-free", "the disk is full and free, again and again", _ON_EXT4, 1, run_growing, kind="ext4"
    ),
)
