"""Whatever a network does to connections costs no row, and the backlog waits on the disk only.

Method: both ports of the service are behind proxies. A victim sends without a pause while the proxies go
through all of their modes in an order that is drawn. In each mode the fault must have struck, and batches
must go on being stored; after each, rows must land again. Then its connections are cut at random moments,
as many times as the trial needs, with rows landing in between. A second trial lets nothing through until
the backlog is nearly twice what memory may grow by.

A bit is flipped without TLS in the head of a frame from the service only: nothing protects what else is
said without TLS, so nothing is promised of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..faults.proxy import (
    Bandwidth,
    Blackhole,
    CutAfter,
    DropResponses,
    FlipBit,
    HalfOpen,
    Latency,
    Mode,
    Pass,
    Refuse,
    Reset,
    Swizzle,
)
from ..stage import Need, Stage
from ..verdict import Expectations
from ..way import Way, either, is_exact, log_bytes, resident_bytes, steady, until

if TYPE_CHECKING:
    from ..trial import Trial
    from ..victims.victim import Victim

_HTTP2_FRAME_HEADER_BYTES = 9
# Each trial cuts connections until there were so many, whatever the modes have cut.
_DISCONNECTS = 70
_MIB = 1024 * 1024
_WARM_BYTES = 4 * _MIB
_BACKLOG_BYTES = 40 * _MIB
_MEMORY_GROWTH_MAX_BYTES = 24 * _MIB


def modes(trial: Trial) -> list[Mode]:
    """All modes of the proxy, in an order that is drawn."""
    random = trial.random
    all_modes: list[Mode] = [
        Pass(),
        Latency(0.02, 0.05),
        Bandwidth(random.choice([20_000, 100_000])),
        Reset(),
        Refuse(),
        Blackhole(),
        HalfOpen("to_server"),
        HalfOpen("to_client"),
        DropResponses(random.choice([1, 20, 100])),
        FlipBit("to_client", within=_HTTP2_FRAME_HEADER_BYTES),
        CutAfter(200, 20_000),
        Swizzle(0.05),
    ]
    random.shuffle(all_modes)
    return all_modes


def strike(way: Way, victim: Victim, mode: Mode, trial: Trial) -> None:
    """One mode from its beginning to rows that land after it."""
    struck = way.streams.counts[mode.name]
    way.set(mode)
    if not isinstance(mode, Pass):
        until(
            lambda: way.streams.counts[mode.name] > struck or not victim.is_running,
            lambda: f"{mode} hits no connection; {victim.complaints()}",
        )
    way.wait_for_acknowledgements(5, f"while {mode} holds", victim)
    way.heal()
    way.wait_for_commit(f"after {mode}", victim)
    trial.count(f"mode {mode.name}")
    trial.count("connections hit", way.streams.counts[mode.name] - struck)


def cut_again_and_again(way: Way, victim: Victim, trial: Trial) -> None:
    """Resets connections at random moments until there were enough disconnects."""
    while way.disconnects < _DISCONNECTS:
        until(
            lambda: way.streams.open_connections() > 0 or not victim.is_running,
            lambda: f"the victim opens no connection any more; {victim.complaints()}",
        )
        # Sometimes before the stream is open, sometimes with rows on their way.
        if trial.random.random() < 0.5:
            way.wait_for_commit("between two cuts", victim)
        way.streams.cut()
        way.tokens.cut()


def modes_trial(trial: Trial) -> None:
    """All modes, then cuts."""
    service = trial.service()
    with Way(service, trial.random.randrange(2**32)) as way:
        options = steady(trial)
        victim = trial.victim(options, kind=either(trial), connection=way.connection)
        way.wait_for_commit("at first", victim)
        for mode in modes(trial):
            strike(way, victim, mode, trial)
        cut_again_and_again(way, victim, trial)
        way.wait_for_commit("after the last cut", victim)
        trial.kill(victim)
        trial.count("disconnects", way.disconnects)
    trial.finish(expect=Expectations(exactly_once=is_exact(options)))


def backlog_trial(trial: Trial) -> None:
    """Nothing goes through until the backlog is large."""
    service = trial.service()
    outages: list[Mode] = [Refuse(), Reset(), Blackhole()]
    dead = trial.random.choice(outages)
    with Way(service, trial.random.randrange(2**32)) as way:
        # A small window, so that what grows would be the backlog.
        options = steady(
            trial, streams=1, max_inflight_requests=4, request_max_bytes=65_536, segment_bytes=4 << 20
        )
        options = replace(options, rows=(2000, 3000), producers=2, pause_ms=0)
        victim = trial.victim(options, connection=way.connection)
        way.wait_for_commit("at first", victim)
        way.set(dead)
        backlog = -log_bytes(trial)
        # Whatever grows until the first batches wait, such as pools of threads, has grown then.
        until(lambda: backlog + log_bytes(trial) > _WARM_BYTES, "a log that grows while nothing is delivered")
        resident = resident_bytes(victim)
        until(
            lambda: backlog + log_bytes(trial) > _BACKLOG_BYTES, "a log that grows while nothing is delivered"
        )
        growth = resident_bytes(victim) - resident
        trial.count("backlog bytes", backlog + log_bytes(trial))
        trial.count("memory growth bytes", max(0, growth))
        if growth > _MEMORY_GROWTH_MAX_BYTES:
            raise AssertionError(
                f"R11: memory grew by {growth} bytes while {_BACKLOG_BYTES} bytes began to wait, "
                f"at most {_MEMORY_GROWTH_MAX_BYTES} were expected"
            )
        way.heal()
        way.wait_for_commit("after the outage", victim)
        trial.kill(victim)
        trial.count(f"mode {dead.name}")
    # What has become so long is not drained through the smallest window in time.
    trial.finish(settings={"request_max_bytes": 1_000_000, "max_inflight_requests": 16})


def run(trial: Trial) -> None:
    """One trial in three is about the backlog."""
    if trial.index % 3 == 2:
        backlog_trial(trial)
    else:
        modes_trial(trial)


STAGES = (
    Stage(
        name="network",
        rows=(16, 17),
        fault="latency, little bandwidth, reset, refused, blackhole, half-open to either side, answers "
        "lost, a flipped bit, cut after so many bytes, connections clogged one by one; then cut "
        "again and again",
        promise="nothing stored is lost, senders are not held up, the backlog grows on the disk only, rows "
        "land again once the way is free",
        proof="a victim behind two TCP proxies that go through all modes; in each the fault must hit a "
        "connection, batches must go on being stored, and rows must land afterwards",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=3,
        run=run,
        unit="disconnects",
    ),
)
