"""What is taken away from a process, descriptors, space in files, rights, costs typed refusals and no row.

Method: a victim works, then something is taken away from it, then it is given back. Meanwhile the victim may
refuse rows or take them; what it takes is promised. It must not end, and once all is well again it must take
rows, or a new process must. In the last stage somebody removes the directory of a live log: what was in it is
gone and counted as ambiguous, what is taken afterwards is promised again.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..faults import limits
from ..faults.mounts import MIB, Mount, make_image
from ..stage import Need, Stage
from ..trial import Trial
from ..verdict import Expectations
from ..victims.options import Options
from ..victims.victim import Victim

MEANWHILE_SECS = 1.5
# Root obeys permissions without these.
WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", "--")


def options_of(trial: Trial, **fixed: Any) -> Options:
    """Small segments, so that new files are needed all the time."""
    settings = {
        "wait_for": "stored",
        "segment_bytes": 128 << 10,
        "on_full": "block",
        "block_timeout_secs": 0.2,
    }
    return replace(trial.options(**settings, **fixed), rows=(50, 200), producers=2)


def start(trial: Trial, options: Options, wal_dir: Path, prefix: Sequence[str] = ()) -> Victim:
    """A victim that has been acknowledged something."""
    victim = trial.victim(options, wal_dir=wal_dir, prefix=prefix)
    if victim.wait_for("ack", times=3) is None:
        raise AssertionError(f"the victim ended before anything was done to it: {victim.life.events[-1]}")
    return victim


def meanwhile(trial: Trial, victim: Victim) -> None:
    """Lets it work under the fault, and counts what it said.

    Raises:
        AssertionError: It has ended.
    """
    before = victim.acknowledged
    deadline = time.monotonic() + MEANWHILE_SECS
    while time.monotonic() < deadline:
        if not victim.is_running:
            raise AssertionError(f"the victim ended: {victim.life.events[-2:]}; {victim.complaints()}")
        time.sleep(0.01)
    refused = [event for event in victim.life.events if event["event"] == "refused"]
    trial.count("batches acknowledged under the fault", victim.acknowledged - before)
    trial.count("batches refused under the fault", len(refused))


def goes_on(victim: Victim) -> bool:
    """Whether it takes rows again; a log that was poisoned does not, and says so."""
    before = victim.acknowledged
    deadline = time.monotonic() + 20.0
    while victim.acknowledged < before + 3 and time.monotonic() < deadline:
        last = victim.heard("refused")
        if last is not None and last["code"] == "poisoned":
            return False
        time.sleep(0.01)
    if victim.acknowledged < before + 3:
        raise AssertionError(f"it takes no rows although all is well again: {victim.life.events[-2:]}")
    return True


def accepts_again(trial: Trial, options: Options, wal_dir: Path, prefix: Sequence[str] = ()) -> None:
    """A new process takes rows."""
    trial.kill(start(trial, options, wal_dir, prefix))


def run_limit(trial: Trial, *, open_files: bool) -> None:
    """A limit of the process, while it runs."""
    service = trial.service()
    options = options_of(trial)
    victim = start(trial, options, trial.wal_dir)
    if open_files:
        limits.change(victim.pid, open_files=len(list(Path(f"/proc/{victim.pid}/fd").iterdir())))
        # It needs a new connection as well.
        service.kill_and_restart()
    else:
        limits.change(victim.pid, file_bytes=trial.random.choice([1, 4096, 64 << 10]))
    meanwhile(trial, victim)
    limits.change(victim.pid, open_files=4096 if open_files else None, file_bytes=None if open_files else -1)
    trial.count("lives that went on by themselves", int(goes_on(victim)))
    trial.kill(victim)
    accepts_again(trial, options, trial.wal_dir)
    trial.finish()


def run_small_from_the_start(trial: Trial) -> None:
    """A limit on file sizes that is there before the log is opened."""
    trial.service()
    options = options_of(trial)
    trial.kill(start(trial, options, trial.wal_dir))
    for file_bytes in (0, 4096, 100_000):
        victim = trial.victim(options, prefix=limits.prefix(file_bytes=file_bytes))
        victim.wait_for("opening")
        deadline = time.monotonic() + MEANWHILE_SECS
        while victim.is_running and time.monotonic() < deadline:
            time.sleep(0.01)
        trial.count("openings that failed", int(victim.heard("failed") is not None))
        victim.kill()
    accepts_again(trial, options, trial.wal_dir)
    trial.finish()


def run_read_only(trial: Trial) -> None:
    """A file system that makes itself read-only, as ext4 does after an error."""
    trial.service()
    image = trial.directory / "disk.img"
    make_image(image, "ext4", 64 * MIB)
    with (
        Mount(trial.directory / "disk", "ext4", image, "errors=remount-ro") as mount,
        trial.kept(mount.directory),
    ):
        wal_dir = mount.directory / "wal"
        options = options_of(trial)
        victim = start(trial, options, wal_dir)
        # As far as the file system knows, its journal has failed. What it had not committed is gone.
        before_ns = time.monotonic_ns()
        mount.remount("abort")
        meanwhile(trial, victim)
        if victim.heard("refused") is None:
            raise AssertionError("nothing was refused on a read-only disk")
        victim.kill()
        trial.oracle.cut(victim.life, before_ns)
        reader = trial.victim(options, wal_dir=wal_dir)
        reader.wait_for("opening")
        reader.wait_for("failed", timeout=20.0)
        trial.count("openings that failed", int(reader.heard("failed") is not None))
        reader.kill()
        mount.unmount()
        mount.mount()
        accepts_again(trial, options, wal_dir)
        trial.finish(wal_dir)


def run_no_rights(trial: Trial) -> None:
    """Directories that nobody may write to any more."""
    trial.service()
    options = options_of(trial)
    victim = start(trial, options, trial.wal_dir, WITHOUT_PRIVILEGES)
    directory = Path(str(victim.heard("open")["directory"]))  # type: ignore[index]
    directory.chmod(0o500)
    meanwhile(trial, victim)
    directory.chmod(0o700)
    trial.count("lives that went on by themselves", int(goes_on(victim)))
    trial.kill(victim)
    for mode in (0o500, 0o000):
        directory.chmod(mode)
        reader = trial.victim(options, prefix=WITHOUT_PRIVILEGES)
        reader.wait_for("opening")
        deadline = time.monotonic() + MEANWHILE_SECS
        while reader.is_running and reader.acknowledged == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        trial.count("openings that failed", int(reader.heard("failed") is not None))
        reader.kill()
    directory.chmod(0o700)
    accepts_again(trial, options, trial.wal_dir, WITHOUT_PRIVILEGES)
    trial.finish()


def run_removed(trial: Trial) -> None:
    """A directory that is removed under a live log."""
    trial.service()
    options = options_of(trial)
    victim = start(trial, options, trial.wal_dir)
    removed_ns = time.monotonic_ns()
    shutil.rmtree(trial.wal_dir, ignore_errors=True)
    subprocess.run(["rm", "-rf", str(trial.wal_dir)], check=True)
    meanwhile(trial, victim)
    if victim.heard("refused") is None:
        raise AssertionError("the log went on in a directory that is not there any more, and nobody was told")
    victim.kill()
    for batch in trial.oracle.batches:
        # The next log has the same place, and numbers of its own.
        batch.ambiguous, batch.directory = "its directory was removed", f"{batch.directory} (removed)"
    late = sum(
        batch.ack_ns is not None and batch.ack_ns > removed_ns for batch in victim.life.batches.values()
    )
    trial.count("batches acknowledged into a removed directory", late)
    accepts_again(trial, options, trial.wal_dir)
    trial.finish(expect=Expectations(damage_reported=True))


def _stage(
    name: str, fault: str, needs: frozenset[Need], run: Any, rows: tuple[int, ...] = (13,), **how: Any
) -> Stage:
    return Stage(
        name=name,
        rows=rows,
        fault=fault,
        promise="typed refusals, no end of the process, no loss of what was acknowledged",
        proof="what was taken is given back, rows are taken again, announcements compared with the table",
        needs=needs,
        trials=1,
        run=partial(run, **how),
    )


STAGES = (
    _stage(
        "limit-open-files", "no file descriptor is left (EMFILE)", frozenset(), run_limit, open_files=True
    ),
    _stage(
        "limit-file-size", "files may not grow (EFBIG, SIGXFSZ)", frozenset(), run_limit, open_files=False
    ),
    _stage(
        "limit-file-size-at-start",
        "files may not be large from the start",
        frozenset(),
        run_small_from_the_start,
    ),
    _stage(
        "read-only",
        "the file system makes itself read-only (EROFS)",
        frozenset({Need.ROOT, Need.LOOP, Need.EXT4}),
        run_read_only,
    ),
    _stage(
        "no-rights",
        "the directory may not be written or read (EACCES)",
        frozenset({Need.ROOT}),
        run_no_rights,
    ),
    _stage("directory-removed", "somebody removes the directory of a live log", frozenset(), run_removed),
)
