"""Under steady input and faults that are drawn over time neither memory nor descriptors nor disk grow.

Method: one victim sends a little at a time behind two proxies for the whole of a trial. A fault of the
network, the service or the token endpoint is drawn every second and healed a little later, and rows must
land after each. Memory and descriptors are sampled all the time, the disk and the age of the oldest row
that waits after each fault. What a fault takes for a while is no growth, so the lowest of the second and of
the last quarter of a trial are compared; in the first one pools and caches fill. At the end the backlog
drains while the victim lives, and the log gives its disk back.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from arrow_zerobus_sdk_wrapper import admin

from ..faults.proxy import (
    Bandwidth,
    Blackhole,
    CutAfter,
    DropResponses,
    HalfOpen,
    Latency,
    Mode,
    Reset,
    Swizzle,
)
from ..stage import Stage
from ..verdict import Expectations
from ..way import Way, directory_of, is_exact, log_bytes, steady, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..trial import Trial
    from ..victims.victim import Victim

# The first trial, which is that of the short mode; each one after it takes twice as long.
_FIRST_SECS = 40.0
_LONGEST_SECS = 3600.0
_FAULT_SECS = 0.3
_CALM_SECS = 0.7
_MIB = 1024 * 1024
# A trial is short, and an allocator gives pages back when it likes.
_MEMORY_GROWTH_MAX_BYTES = 16 * _MIB
_DESCRIPTORS_GROWTH_MAX = 8
_DISK_GROWTH_MAX_BYTES = 4 * _MIB
_LAG_GROWTH_MAX_SECS = 5
# Of each quarter.
_SAMPLES_MIN = 4
# What an idle log takes beside its segments: the ledger, reserves.
_DISK_MAX_BYTES = 16 * _MIB
_DRAIN_SECS = 60.0


def growth(samples: Sequence[float]) -> float:
    """How much the lowest of the last quarter is above the lowest of the second one.

    Raises:
        AssertionError: There are too few samples to tell.
    """
    quarter = len(samples) // 4
    if quarter < _SAMPLES_MIN:
        raise AssertionError(f"{len(samples)} samples tell nothing")
    return min(samples[-quarter:]) - min(samples[quarter : 2 * quarter])


def faults(way: Way, trial: Trial) -> list[tuple[str, Callable[[], None]]]:
    """What can be drawn, and how it is called in the report."""
    service, random = way.service, trial.random
    seed = random.randrange(2**32)

    def add(rule: dict[str, Any]) -> None:
        service.faults(rule)

    def restart(end: Callable[[], None]) -> None:
        end()
        service.start()

    modes: list[Mode] = [
        Latency(0.05, 0.05),
        Bandwidth(20_000),
        Reset(),
        Blackhole(),
        HalfOpen("to_server"),
        HalfOpen("to_client"),
        DropResponses(),
        CutAfter(100, 5_000),
        Swizzle(),
    ]
    rules: list[dict[str, Any]] = [
        {"fault": "fail_stream", "code": "UNAVAILABLE", "probability": 0.3, "seed": seed},
        {"fault": "drop_ack", "probability": 0.3, "seed": seed},
        {"fault": "close_signal", "grace_ms": 50, "probability": 0.3, "seed": seed},
        {"fault": "fail_open", "code": "PERMISSION_DENIED"},
        {"fault": "fail_token", "status": 503},
        {"fault": "expire_token", "after_ms": 50, "claim_secs": 3600},
    ]
    drawn: list[tuple[str, Callable[[], None]]] = [
        (f"mode {mode.name}", partial(way.set, mode)) for mode in modes
    ]
    drawn += [(rule["fault"], partial(add, rule)) for rule in rules]
    drawn.append(("service killed", partial(restart, service.kill)))
    drawn.append(("service stopped", partial(restart, service.stop)))
    return drawn


def oldest_waiting_secs(victim: Victim) -> float:
    """How long the oldest row waits that is not delivered yet."""
    (status,) = admin.status(directory_of(victim))
    return status.oldest_waiting_secs or 0.0


def run(trial: Trial) -> None:
    """One victim, many faults."""
    service = trial.service(commit_interval_ms=10)
    with Way(service, trial.random.randrange(2**32)) as way:
        options = steady(trial, segment_bytes=256 * 1024, retain_delivered_bytes=0)
        victim = trial.victim(options, connection=way.connection)
        way.wait_for_commit("at first", victim)
        usage = trial.resources.usages[-1]
        disk, lag = [], []
        ends = time.monotonic() + min(_FIRST_SECS * 2**trial.index, _LONGEST_SECS)
        while time.monotonic() < ends:
            name, begin = trial.random.choice(faults(way, trial))
            begin()
            # How long a fault lasts is what is tried here, and so is how long it is calm.
            time.sleep(_FAULT_SECS)
            service.faults(clear=True)
            way.heal()
            way.wait_for_commit(f"after {name}", victim)
            trial.count(f"faults, {name}")
            trial.count("faults")
            time.sleep(_CALM_SECS)
            disk.append(log_bytes(trial))
            lag.append(oldest_waiting_secs(victim))
        grown = {
            "bytes of memory": (growth(usage.series), _MEMORY_GROWTH_MAX_BYTES),
            "descriptors": (growth(usage.descriptors_series), _DESCRIPTORS_GROWTH_MAX),
            "bytes of disk": (growth(disk), _DISK_GROWTH_MAX_BYTES),
            "seconds of lag": (growth(lag), _LAG_GROWTH_MAX_SECS),
        }
        for what, (more, allowed) in grown.items():
            trial.count(f"{what} grown", max(0, round(more)))
            if more > allowed:
                raise AssertionError(
                    f"R11: {more} {what} more than in the second quarter, {allowed} are allowed"
                )
        victim.command("drain")
        if victim.wait_for("drained", timeout=_DRAIN_SECS) is None:
            raise AssertionError(f"R12: the victim has ended before it has drained; {victim.complaints()}")
        until(
            lambda: log_bytes(trial) <= _DISK_MAX_BYTES,
            lambda: f"a drained log that gives its disk back; it takes {log_bytes(trial)} bytes",
        )
        victim.close()
    trial.finish(expect=Expectations(exactly_once=is_exact(options)))


STAGES = (
    Stage(
        name="soak",
        rows=(16, 17, 18, 19, 30),
        fault="faults of network, service and tokens, drawn every second while a victim sends",
        promise="nothing stored is lost, and memory, descriptors and disk are flat; everything drains in "
        "the end",
        proof="samples of /proc over the whole trial, which doubles in length from one to the next; the "
        "table",
        needs=frozenset(),
        trials=1,
        run=run,
        unit="faults",
        timeout_secs=_LONGEST_SECS + 600,
    ),
)
