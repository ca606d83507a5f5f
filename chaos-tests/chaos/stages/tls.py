"""Over TLS no bit that flips on the way alters, loses or invents a row.

Method: the service has a private CA and is behind proxies. A victim that trusts that CA sends without a
pause, while one bit of each connection is flipped at a place that is drawn: in the handshake, in
requests, in acknowledgements, in tokens. The rows are compared by an oracle that knows what each must be.
Once the flips end, rows land again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faults.proxy import Direction, FlipBit
from ..stage import Stage
from ..verdict import Expectations
from ..way import Way, is_exact, steady, until

if TYPE_CHECKING:
    from ..trial import Trial
    from ..victims.victim import Victim

_FLIPS = 24
_ROUNDS = 6
# So much a handshake and the opening of a stream take, about, and so much a second of rows.
_LATEST_BYTES: dict[Direction, int] = {"to_server": 30_000, "to_client": 6_000}
_DIRECTIONS: tuple[Direction, ...] = ("to_server", "to_client")


def flip_some(way: Way, victim: Victim, trial: Trial, wanted: int) -> None:
    """Flips bits in one direction until there were so many in all; then rows must land."""
    direction: Direction = trial.random.choice(_DIRECTIONS)
    flip = FlipBit(direction, after_bytes=trial.random.randrange(_LATEST_BYTES[direction]))
    way.set(flip)
    until(
        lambda: way.streams.counts[flip.name] >= wanted or not victim.is_running,
        lambda: f"{flip} flips no bit; {victim.complaints()}",
    )
    way.heal()
    way.wait_for_commit(f"after {flip}", victim)


def run(trial: Trial) -> None:
    """Flips in some rounds, with rows that land in between."""
    service = trial.service(tls=True)
    with Way(service, trial.random.randrange(2**32)) as way:
        options = steady(trial)
        victim = trial.victim(options, connection=way.connection)
        way.wait_for_commit("at first", victim)
        for number in range(1, _ROUNDS + 1):
            flip_some(way, victim, trial, number * _FLIPS // _ROUNDS)
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
    ),
)
