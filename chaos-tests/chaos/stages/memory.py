"""A process with little memory stores and delivers more than it has; one that is killed for it lost nothing.

Method: victims live in a control group with a limit. `memory-limit`: the service is away, and the backlog
grows beyond the limit; page cache may be taken away, the process may not be killed. Then it delivers
everything under the same limit. `memory-kill`: beside the victim something else in the group takes all the
memory, and the kernel kills the victim at whatever it does. `oversize`: a batch that fits into no segment is
refused before anything of it is written, and costs no memory afterwards.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from ..faults.memory import MemoryLimit
from ..faults.mounts import MIB
from ..stage import Need, Stage
from ..trial import Trial
from .kill import wait_for_acknowledgements

LIMITS = (144 * MIB, 192 * MIB, 256 * MIB)
# Of the limit.
BACKLOG = 1.25
BACKLOG_SECS = 60.0


def group_of(trial: Trial, limit_bytes: int) -> MemoryLimit:
    """A control group for this trial alone."""
    return MemoryLimit(f"chaos-{os.getpid()}-{trial.index}", limit_bytes)


def run_limit(trial: Trial) -> None:
    """A backlog that is larger than the memory."""
    service = trial.service()
    service.kill()
    # A file in memory counts as the memory of whoever wrote it.
    trial.on_disk()
    limit = LIMITS[trial.index % len(LIMITS)]
    with group_of(trial, limit) as group:
        options = trial.options(wait_for="stored", durability="sync", segment_bytes=4 * MIB, streams=1)
        # Few large requests: a debug build takes minutes for such a backlog in small ones.
        window = {"max_inflight_requests": 4, "request_max_bytes": 1_000_000}
        options = replace(options.with_settings(**window), rows=(2000, 4000), producers=2)
        victim = trial.victim(options, prefix=group.prefix())
        victim.wait_for("ack")
        directory = Path(str((victim.heard("open") or {})["directory"]))
        deadline = time.monotonic() + BACKLOG_SECS
        while victim.is_running and time.monotonic() < deadline and _bytes_of(directory) < BACKLOG * limit:
            time.sleep(0.05)
        trial.count("megabytes of backlog", _bytes_of(directory) // MIB)
        service.start()
        victim.command("drain")
        if victim.wait_for("drained", timeout=120.0) is None:
            raise AssertionError(
                f"the victim has ended: {victim.life.events[-1]}; {group.kills()} killed by the kernel"
            )
        trial.count("megabytes of memory at most, page cache included", group.peak_bytes() // MIB)
        victim.close()
    trial.finish()


def _bytes_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("segment-*.wal"))


def run_kill(trial: Trial) -> None:
    """The kernel kills for memory."""
    trial.service()
    for _ in range(2):
        with group_of(trial, 320 * MIB) as group:
            victim = trial.victim(trial.options(), prefix=group.prefix())
            # It is the one that is taken.
            Path(f"/proc/{victim.pid}/oom_score_adj").write_text("1000")
            victim.wait_for("open")
            wait_for_acknowledgements(victim, trial.random.randint(1, 20), 2.0)
            hog = subprocess.Popen(
                [*group.prefix(), sys.executable, "-c", f"x = bytearray({600 * MIB}); input()"],
                stdin=subprocess.PIPE,
            )
            try:
                status = victim.wait(timeout=30.0)
            finally:
                hog.kill()
                hog.wait()
            if status != -9 or group.kills() == 0:
                raise AssertionError(f"the victim ended with {status}, {group.kills()} killed for memory")
            trial.count("kills for memory")
    trial.finish()


def run_oversize(trial: Trial) -> None:
    """Batches that fit into no segment."""
    trial.service()
    with group_of(trial, 512 * MIB) as group:
        options = trial.options(wait_for="stored", segment_bytes=64 << 10)
        victim = trial.victim(replace(options, rows=(2000, 4000), producers=2), prefix=group.prefix())
        refused = victim.wait_for("refused", times=20)
        if refused is None or victim.acknowledged:
            raise AssertionError(
                f"{victim.acknowledged} batches were taken that fit into no segment: {refused}"
            )
        directory = Path(str((victim.heard("open") or {})["directory"]))
        if (written := _bytes_of(directory)) > 64 << 10:
            raise AssertionError(f"{written} bytes were written of batches that are too large")
        trial.count(
            "oversize batches refused", sum(b.refused is not None for b in victim.life.batches.values())
        )
        trial.kill(victim)
        good = trial.victim(replace(options, rows=(1, 100)), prefix=group.prefix())
        good.wait_for("ack", times=5)
        trial.kill(good)
    trial.finish()


_NEEDS = frozenset({Need.ROOT, Need.MEMORY_CGROUP})
STAGES = (
    Stage(
        name="memory-limit",
        rows=(25,),
        fault="a memory limit of 144 to 256 MiB, page cache included, and a backlog",
        promise="the process lives, stores and delivers; memory does not grow with the backlog",
        proof="a control group counts what the kernel kills; announcements compared with the table",
        needs=_NEEDS,
        trials=1,
        run=run_limit,
    ),
    Stage(
        name="memory-kill",
        rows=(1, 25),
        fault="the kernel kills the process because memory is short",
        promise="no acknowledged row is lost",
        proof="the control group counts the kill; announcements compared with the table",
        needs=_NEEDS,
        trials=1,
        unit="kills for memory",
        run=run_kill,
    ),
    Stage(
        name="oversize",
        rows=(25,),
        fault="batches that fit into no segment",
        promise="refused with both sizes before anything is written; the next ones are taken",
        proof="the directory is looked at; announcements compared with the table",
        needs=_NEEDS,
        trials=1,
        run=run_oversize,
    ),
)
