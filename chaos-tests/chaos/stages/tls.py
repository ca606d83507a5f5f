"""Over TLS no bit that flips on the way alters, loses or invents a row.

Method: the service has a private CA and is behind proxies. A victim that trusts that CA sends without a
pause, while one bit of each connection is flipped at a place that is drawn: in the handshake, in
requests, in acknowledgements, in tokens. The rows are compared by an oracle that knows what each must be.
Once the flips end, rows land again.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ..faults.proxy import Direction, FlipBit
from ..stage import Stage
from ..verdict import Expectations
from ..way import Way, is_exact, steady, until

if TYPE_CHECKING:
    from ..trial import Trial
    from ..victims.victim import Victim

_FLIPS = 12
_PATIENCE_SECS = 0.3
# So much a handshake and the opening of a stream take, about, and so much a second of rows.
_LATEST_BYTES: dict[Direction, int] = {"to_server": 6_000, "to_client": 4_000}
_DIRECTIONS: tuple[Direction, ...] = ("to_server", "to_client")


def flip_one(way: Way, victim: Victim, trial: Trial) -> None:
    """Flips a bit of the next connection that comes to the place; then rows must land."""
    direction: Direction = trial.random.choice(_DIRECTIONS)
    flip = FlipBit(direction, after_bytes=trial.random.randrange(_LATEST_BYTES[direction]))
    counts = way.streams.counts
    struck, noticed = counts[flip.name], counts["flips_noticed"]
    if trial.random.random() < 0.5:
        # Of a new connection, so that the handshake has its share.
        way.streams.cut()
    way.set(flip)
    until(
        lambda: counts[flip.name] > struck or not victim.is_running,
        lambda: f"{flip} flips no bit; {victim.complaints()}",
    )
    # In the length of a record it makes its reader wait for more, which ends with the mode.
    patience = time.monotonic() + _PATIENCE_SECS
    while counts["flips_noticed"] == noticed and time.monotonic() < patience:
        time.sleep(0.005)
    way.heal()
    way.wait_for_commit(f"after {flip}", victim)


def run(trial: Trial) -> None:
    """Flip after flip, with rows that land in between."""
    service = trial.service(tls=True)
    with Way(service, trial.random.randrange(2**32)) as way:
        # Enough bytes that each connection comes to where its bit is flipped.
        options = replace(steady(trial), rows=(20, 100), pause_ms=3)
        victim = trial.victim(options, connection=way.connection)
        way.wait_for_commit("at first", victim)
        for _ in range(_FLIPS):
            flip_one(way, victim, trial)
        if way.streams.counts["flips_noticed"] < _FLIPS // 2:
            raise AssertionError(f"most flips were not noticed: {dict(way.streams.counts)}")
        trial.count("flips noticed at once", way.streams.counts["flips_noticed"])
        trial.count("bits flipped", way.streams.counts[FlipBit.name] + way.tokens.counts[FlipBit.name])
        trial.count("disconnects", way.disconnects)
        trial.kill(victim)
    trial.finish(expect=Expectations(exactly_once=is_exact(options)))


STAGES = (
    Stage(
        name="tls",
        rows=(16,),
        fault="a bit flips in a TLS connection, in the handshake, in requests, in acknowledgements, in "
        "tokens",
        promise="it is found; no row is altered, lost or invented, and delivery goes on",
        proof="an emulator with a private CA behind a proxy that flips bits; every row is compared",
        needs=frozenset(),
        trials=1,
        run=run,
        unit="bits flipped",
    ),
)
