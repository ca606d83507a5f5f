"""A drive that loses its cache, fails or cannot be read costs no acknowledged row; one that lies is found.

Method: the log is on a file system on a loop device on a disk of our own (`faults/blockdev.c`), which has a
volatile cache: what was not flushed survives a cut sector by sector, by chance. So the kernel, its page
cache and its file system are the real ones. The stages:

`sectors-ext4`, `-xfs`, `-btrfs`: cuts with 0, 50 and 90 percent of the unflushed sectors surviving.

`fsyncgate-…`: one write of a frame fails in the disk. The kernel tells that once, then says that all is well
and shows bytes that are not on the disk. The victim goes on, is killed, its successor opens the log in the
same boot, with those pages in the cache, and works; then the power goes and takes the cache with it.

`unreadable-sectors`: a stretch of the disk cannot be read while the log is opened and drained. Afterwards it
can, and nothing is missing.

`lying-disk`: flushes do nothing. No promise can hold then. Nothing may be invented or altered; what is gone
is counted, and what `status` reports.

`lying-journal`: as `fsyncgate-…`, on ext4 with `data=journal`, where a frame goes into the journal first. The
kernel tells nobody that a write of the journal has failed, and after the cut the file system can only be
mounted once `e2fsck` has mended the journal. So what was acknowledged since then counts as with a disk that
lies.
"""

from __future__ import annotations

import time
from functools import partial

from ..faults.blockdev import SECTOR_BYTES, BlockDevice
from ..faults.mounts import Kind
from ..stage import Need, Stage
from ..trial import Trial
from ..verdict import Expectations
from ..victims.victim import Victim
from .power_cut import kind_of_victim, wait_for_a_moment

SURVIVING_PERCENT = (0, 50, 90)
PATIENCE_SECS = 5.0


def device_of(trial: Trial, kind: Kind, options: str = "") -> BlockDevice:
    """The disk of a trial."""
    return BlockDevice(trial.directory / "device", kind, options=options)


def cut(trial: Trial, device: BlockDevice, victim: Victim, percent: int, *, repair: bool = False) -> None:
    """Cuts the power under a victim and brings it back."""
    before_ns = time.monotonic_ns()
    before = device.counts()
    after = device.cut(percent, trial.random.getrandbits(31))
    victim.kill()
    # Now that everything it said is heard.
    trial.oracle.cut(victim.life, before_ns)
    device.restore(repair=repair)
    trial.count("power cuts")
    trial.count("sectors taken by cuts", after.taken - before.taken)


def run_sectors(trial: Trial, kind: Kind, cuts: int) -> None:
    """Cuts with a part of the cache surviving."""
    service = trial.service()
    is_away = trial.index % 2 == 0
    if is_away:
        service.kill()
    with device_of(trial, kind) as device:
        wal_dir = device.mount.directory / "wal"
        with trial.kept(device.mount.directory):
            for number in range(cuts):
                options = trial.options(ordered=is_away)
                if is_away:
                    options = options.with_settings(wait_for="stored")
                victim = trial.victim(options, wal_dir=wal_dir, kind=kind_of_victim(number))
                wait_for_a_moment(trial, victim)
                cut(trial, device, victim, SURVIVING_PERCENT[number % len(SURVIVING_PERCENT)])
            trial.finish(wal_dir, expect=Expectations(ordered=is_away))


def run_fsyncgate(trial: Trial, kind: Kind, *, with_journal: bool = False) -> None:
    """A failed write of the disk, a restart in the same boot, a cut.

    Args:
        trial: The trial.
        kind: The file system.
        with_journal: Whether frames go through its journal, whose failed writes nobody is told of.
    """
    trial.service().kill()
    with device_of(trial, kind, "data=journal" if with_journal else "") as device:
        wal_dir = device.mount.directory / "wal"
        with trial.kept(device.mount.directory):
            options = trial.options(wait_for="stored", durability="sync")
            first = trial.victim(options, wal_dir=wal_dir)
            first.wait_for("ack", times=3)
            failing_ns = time.monotonic_ns()
            device.fail_write(trial.random.randint(1, 20), frames_only=True)
            deadline = time.monotonic() + PATIENCE_SECS
            while not device.counts().injected and time.monotonic() < deadline:
                time.sleep(0.005)
            injected = device.counts().injected
            if not injected:
                raise AssertionError("no write of the disk has failed, so nothing was shown")
            trial.count("failed writes of the disk", injected)
            # It goes on in another file, or refuses, as long as the file system can be written.
            said = len(first.life.events)
            while len(first.life.events) < said + 20 and first.is_running and time.monotonic() < deadline:
                time.sleep(0.005)
            first.kill()
            options = trial.options(wait_for="stored", durability="sync")
            second = trial.victim(options, wal_dir=wal_dir)
            if second.wait_for("open") is not None:
                deadline = time.monotonic() + PATIENCE_SECS
                while second.acknowledged < 3 and second.is_running and time.monotonic() < deadline:
                    time.sleep(0.005)
            trial.count(
                "lives after a failed write that were acknowledged something", int(second.acknowledged > 0)
            )
            cut(trial, device, second, 0, repair=with_journal)
            if not with_journal:
                trial.finish(wal_dir)
                return
            for batch in trial.oracle.batches:
                if batch.ack_ns is not None and batch.ack_ns >= failing_ns:
                    batch.ambiguous = batch.ambiguous or "a failed write of the journal was not told"
            count_reports(trial, trial.finish(wal_dir, expect=Expectations(damage_reported=True)))
            gone, reports = trial.counts["batches ambiguous and gone"], trial.counts["reports of damage"]
            if gone and not reports:
                raise AssertionError(f"R7: {gone} batches are gone, and nothing is reported")


def count_reports(trial: Trial, last: Victim) -> None:
    """Counts what the wrapper that has drained a log says of damage."""
    drained = last.heard("drained") or {"statuses": []}
    for status in drained["statuses"]:
        trial.count("reports of damage", len(status["damage"]) + status["damaged_frames"])


def run_unreadable(trial: Trial, kind: Kind) -> None:
    """A stretch that cannot be read for a while."""
    service = trial.service()
    service.kill()
    with device_of(trial, kind) as device:
        wal_dir = device.mount.directory / "wal"
        with trial.kept(device.mount.directory):
            writer = trial.victim(trial.options(wait_for="stored"), wal_dir=wal_dir)
            writer.wait_for("ack", times=20)
            trial.kill(writer)
            # Without anything in the page cache.
            device.restore()
            size = device.size_bytes
            start = trial.random.randrange(0, size // 2)
            device.fail_reads(start, start + trial.random.choice([size // 16, size // 4, size]))
            service.start()
            reader = trial.victim(trial.options(), wal_dir=wal_dir)
            reader.command("drain")
            deadline = time.monotonic() + 2.0
            while reader.is_running and reader.heard("drained") is None and time.monotonic() < deadline:
                time.sleep(0.01)
            trial.count(
                "openings that failed with an error of the library", int(reader.heard("failed") is not None)
            )
            trial.count("failed reads of the disk", device.counts().injected)
            reader.kill()
            device.heal()
            device.restore()
            trial.finish(wal_dir)


def run_lying(trial: Trial, kind: Kind) -> None:
    """Flushes that do nothing, and a cut."""
    trial.service().kill()
    with device_of(trial, kind) as device:
        wal_dir = device.mount.directory / "wal"
        with trial.kept(device.mount.directory):
            honest = trial.victim(trial.options(wait_for="stored"), wal_dir=wal_dir)
            honest.wait_for("ack", times=10)
            trial.kill(honest)
            deceived = trial.victim(trial.options(wait_for="stored"), wal_dir=wal_dir)
            deceived.wait_for("ack", times=5)
            device.lie()
            deceived.wait_for("ack", times=30)
            percent = SURVIVING_PERCENT[(trial.seed + trial.index) % len(SURVIVING_PERCENT)]
            taken = device.counts().taken
            device.cut(percent, trial.random.getrandbits(31))
            deceived.kill()
            device.heal()
            trial.count("sectors taken after a lie", device.counts().taken - taken)
            for batch in trial.oracle.batches:
                batch.ambiguous = batch.ambiguous or "the disk has lied"
            device.restore(repair=True)
            count_reports(trial, trial.finish(wal_dir, expect=Expectations(damage_reported=True)))


def stages() -> list[Stage]:
    """Each experiment on each file system."""
    needs: dict[Kind, Need] = {"ext4": Need.EXT4, "xfs": Need.XFS, "btrfs": Need.BTRFS}
    found = []
    for kind, need in needs.items():
        all_needs = frozenset({Need.ROOT, Need.LOOP, Need.FUSE, Need.CC, need})
        found += [
            Stage(
                name=f"sectors-{kind}",
                rows=(3, 5, 24),
                fault="a cut takes the drive's cache; 0, 50 or 90 % of its sectors"
                f" of {SECTOR_BYTES[kind]} bytes survive ({kind})",
                promise="no acknowledged row is lost, no half batch is delivered",
                proof="a block device of our own under a loop device; announcements compared with the table",
                needs=all_needs | {Need.RUST_VICTIM},
                trials=2 if kind == "ext4" else 1,
                unit="power cuts",
                run=partial(run_sectors, kind=kind, cuts=25),
            ),
            Stage(
                name=f"fsyncgate-{kind}",
                rows=(9, 10, 11),
                fault=f"a write of the disk fails, a restart in the same boot, then a cut ({kind})",
                promise="nothing is acknowledged that is not on the disk, whatever the page cache shows",
                proof="as before; what was acknowledged before and after the failure must be there",
                needs=all_needs,
                trials=2 if kind == "ext4" else 1,
                unit="failed writes of the disk",
                run=partial(run_fsyncgate, kind=kind),
            ),
        ]
    on_ext4 = frozenset({Need.ROOT, Need.LOOP, Need.FUSE, Need.CC, Need.EXT4})
    found.append(
        Stage(
            name="unreadable-sectors",
            rows=(11,),
            fault="a stretch of the disk cannot be read while a log is opened and drained",
            promise="a typed error; nothing is deleted, nothing is missing once it can be read again",
            proof="reads of the block device fail; later everything is compared",
            needs=on_ext4,
            trials=2,
            run=partial(run_unreadable, kind="ext4"),
        )
    )
    found.append(
        Stage(
            name="lying-disk",
            rows=(4,),
            fault="flushes say that all is well and do nothing, then a cut",
            promise="nothing is invented or altered; what is missing in the middle is reported",
            proof="the block device swallows flushes; losses are counted, and what `status` reports",
            needs=on_ext4,
            trials=2,
            run=partial(run_lying, kind="ext4"),
        )
    )
    found.append(
        Stage(
            name="lying-journal",
            rows=(4,),
            fault="a write of the journal fails and nobody is told, then a cut (ext4, data=journal)",
            promise="nothing is invented or altered; what is missing in the middle is reported",
            proof="as before; a batch that is gone without a report is a failure",
            needs=on_ext4,
            trials=1,
            unit="failed writes of the disk",
            run=partial(run_fsyncgate, kind="ext4", with_journal=True),
        )
    )
    return found


STAGES = tuple(stages())
