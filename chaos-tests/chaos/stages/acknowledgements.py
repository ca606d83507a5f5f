"""A lost acknowledgement costs rows that are there twice and counted, or none with exactly-once delivery.

Method: the service commits and drops its acknowledgement, with an error or with a reset; a proxy loses what
the service says and resets the connection. Each is repeated until so many acknowledgements are lost. The
victim then drains and tells how many rows it has sent again, and not one more may be there twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faults.proxy import DropResponses
from ..stage import Need, Stage
from ..verdict import Expectations
from ..way import Way, either, fired, lane, steady, until

if TYPE_CHECKING:
    from ..trial import Trial
    from ..victims.victim import Victim

# By the service, and as many by the proxy.
_LOST = 28


def by_the_service(way: Way, victim: Victim) -> int:
    """Acknowledgements that the service does not send; how many."""
    way.service.faults(
        {"fault": "drop_ack", "times": _LOST // 2, "probability": 0.5, "seed": 1},
        {"fault": "drop_ack", "times": _LOST // 2, "probability": 0.5, "seed": 2, "reset": True},
    )
    until(
        lambda: fired(way.service) == _LOST or not victim.is_running,
        lambda: (
            f"{_LOST} acknowledgements that are dropped, {fired(way.service)} were; {victim.complaints()}"
        ),
    )
    way.service.faults(clear=True)
    way.wait_for_commit("after acknowledgements were dropped", victim)
    return _LOST


def lose_one(way: Way, victim: Victim, mode: DropResponses) -> None:
    """One answer that is lost on the way, and the next stream."""
    # Of a connection that is not open yet nothing is lost, and what is said before its stream is open is no
    # acknowledgement.
    until(
        lambda: way.streams.open_connections() > 0 and lane(victim)["failures_in_a_row"] == 0,
        lambda: f"a stream that is acknowledged; {victim.complaints()}",
    )
    struck, opened = way.streams.counts[mode.name], lane(victim)["streams_opened"]
    way.streams.set(mode)
    until(
        lambda: way.streams.counts[mode.name] > struck or not victim.is_running,
        lambda: f"an answer that is lost; {victim.complaints()}",
    )
    way.streams.heal()
    until(
        lambda: lane(victim)["streams_opened"] > opened,
        lambda: f"a stream after an answer was lost; {victim.complaints()}",
    )
    way.wait_for_commit("after an answer was lost", victim)


def by_the_network(way: Way, victim: Victim, trial: Trial) -> int:
    """Answers that are lost on the way; how many connections lost some."""
    mode = DropResponses(trial.random.choice([1, 30, 60]))
    while way.streams.counts[mode.name] < _LOST:
        lose_one(way, victim, mode)
    return way.streams.counts[mode.name]


def run(trial: Trial) -> None:
    """Every other trial with exactly-once delivery."""
    is_exact = trial.index % 2 == 1
    service = trial.service(commit_interval_ms=10)
    with Way(service, trial.random.randrange(2**32)) as way:
        options = steady(trial, delivery="exactly_once" if is_exact else "at_least_once")
        victim = trial.victim(options, kind=either(trial), connection=way.connection)
        way.wait_for_commit("at first", victim)
        lost = by_the_service(way, victim) + by_the_network(way, victim, trial)
        trial.count("acknowledgements lost", lost)
        # It drains, and has nothing on its way when it ends.
        victim.command("drain")
        victim.wait_for("drained")
        resent = int(lane(victim)["resent_rows"] or 0)
        victim.close()
    trial.count("rows sent again", resent)
    trial.finish(expect=Expectations(exactly_once=is_exact, duplicates_max=0 if is_exact else resent))
    if not is_exact and not trial.counts["rows landed again"]:
        raise AssertionError("nothing was shown: no row landed twice though acknowledgements were lost")


STAGES = (
    Stage(
        name="acknowledgements",
        rows=(17,),
        fault="the service commits and its acknowledgement is lost: it does not send it, resets the "
        "connection, or the network loses it",
        promise="at least once: the rows are there twice and counted before; exactly once: once",
        proof="an emulator that drops acknowledgements, and a proxy that drops answers; the table against "
        "what the owner says that it has sent again",
        needs=frozenset({Need.RUST_VICTIM}),
        trials=2,
        run=run,
        unit="acknowledgements lost",
    ),
)
