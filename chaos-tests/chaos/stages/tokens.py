"""Tokens that expire or are not given, a wrong secret and a missing grant hold up delivery and cost no row.

Method: streams are replaced each second, and tokens are good for less than they claim, so a new one is
needed all the time. The endpoint for tokens answers with each status that it may have, does not answer,
and is out of reach; the secret is wrong and then rotated in its file; grants are revoked and given back.
While delivery is parked batches go on being stored, the lane says why, and rows land again afterwards.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..faults.proxy import Blackhole, Refuse
from ..rows import TABLE
from ..service import CLIENT_CANARY, CLIENT_ID
from ..stage import Stage
from ..verdict import Expectations
from ..way import Way, is_exact, steady, until, wait_for_lane

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..trial import Trial
    from ..victims.victim import Victim

_EXPIRIES = 10
_STATUSES = (400, 401, 403, 408, 429, 500, 502, 503)
# Good for a moment, and it says an hour.
_REVOKED = {"fault": "expire_token", "after_ms": 50, "claim_secs": 3600}
# What ends streams, so that there are new ones that need tokens.
_RESTLESS = {"fault": "fail_stream", "code": "OK", "probability": 0.5}


def expire(way: Way, victim: Victim, trial: Trial) -> None:
    """Tokens that are dead when they are used again."""
    service = way.service
    service.faults(_REVOKED, _RESTLESS)

    def expired() -> int:
        return next(int(rule["fired"]) for rule in service.faults() if rule["fault"] == "expire_token")

    until(lambda: expired() > _EXPIRIES, lambda: f"tokens that expire; {victim.complaints()}")
    # The last one may be good still.
    trial.count("tokens expired", expired() - 1)
    trial.count("faults", expired() - 1)
    way.wait_for_commit("while tokens expire", victim)


def fail(way: Way, victim: Victim, trial: Trial, fault: dict[str, Any]) -> None:
    """One way for the endpoint to fail, while new tokens are needed."""
    service = way.service
    service.faults(clear=True)
    service.faults({**fault, "times": 2}, _REVOKED, _RESTLESS)
    until(
        lambda: next(int(rule["fired"]) for rule in service.faults() if rule["fault"] == fault["fault"]) > 0,
        lambda: f"{fault} strikes; {victim.complaints()}",
    )
    way.wait_for_acknowledgements(3, f"during {fault}", victim)
    if fault["fault"] == "hang_token":
        # The client would wait for its timeout of 20 s; the connection ends before.
        service.faults(clear=True)
        way.tokens.cut()
    way.wait_for_commit(f"after {fault}", victim)
    trial.count("failures of the token endpoint")
    trial.count("faults")


def out_of_reach(way: Way, victim: Victim, trial: Trial) -> None:
    """Nobody gives tokens, and the streams that are open end."""
    for mode in (Refuse(), Blackhole()):
        way.service.faults(clear=True)
        way.tokens.set(mode)
        way.service.faults(_REVOKED, {**_RESTLESS, "probability": 1, "times": 3})
        way.streams.cut()
        way.wait_for_acknowledgements(5, "without tokens", victim)
        way.service.faults(clear=True)
        way.tokens.heal()
        way.tokens.cut()
        way.wait_for_commit("once there are tokens again", victim)
        trial.count("token endpoint out of reach")
        trial.count("faults")


def rotate(way: Way, victim: Victim, trial: Trial, secret_file: Path) -> None:
    """A secret that is wrong, and then rotated in its file."""
    secret_file.write_text("not-the-secret")
    # A stream that is open needs no token, and one that is opened soon has that of a moment ago.
    way.service.faults(_REVOKED, _RESTLESS)
    reason = wait_for_lane(victim, "blocked", "with a wrong secret")["reason"]
    if not reason:
        raise AssertionError("delivery is parked and nothing says why")
    way.wait_for_acknowledgements(5, "with a wrong secret", victim)
    way.service.faults(clear=True)
    secret_file.write_text(CLIENT_CANARY)
    way.wait_for_commit("with the right secret", victim)
    trial.count("secrets rotated")
    trial.count("faults")


def revoke(way: Way, victim: Victim, trial: Trial, privilege: str) -> None:
    """A grant that is taken away and given back."""
    way.service.sql(f"REVOKE {privilege} ON TABLE {TABLE} FROM `{CLIENT_ID}`")
    if privilege == "MODIFY":
        wait_for_lane(victim, "blocked", "without a grant")
    way.streams.cut()
    way.wait_for_acknowledgements(5, "without a grant", victim)
    if privilege == "SELECT":
        way.wait_for_commit("while the catalog says nothing", victim)
    way.service.sql(f"GRANT {privilege} ON TABLE {TABLE} TO `{CLIENT_ID}`")
    way.wait_for_commit("with the grant", victim)
    trial.count("grants revoked and given back")
    trial.count("faults")


def run(trial: Trial) -> None:
    """All of it, in an order that is drawn."""
    # Of a second, so that a secret that has become wrong is noticed soon.
    service = trial.service(token_lifetime_secs=1)
    # Where the service keeps its own: what lies there may be secret.
    secret_file = service.data_dir / "secret-of-the-client"
    secret_file.write_text(CLIENT_CANARY)
    with Way(service, trial.random.randrange(2**32)) as way:
        options = steady(trial)
        connection = {**way.connection, "client_secret": None, "client_secret_file": str(secret_file)}
        victim = trial.victim(options, connection=connection)
        way.wait_for_commit("at first", victim)
        faults: list[dict[str, Any]] = [{"fault": "fail_token", "status": status} for status in _STATUSES]
        faults += [{"fault": "fail_token", "status": 429, "retry_after_secs": 1}, {"fault": "hang_token"}]
        steps: list[Callable[[], None]] = [partial(fail, way, victim, trial, fault) for fault in faults]
        steps += [
            lambda: expire(way, victim, trial),
            lambda: out_of_reach(way, victim, trial),
            lambda: rotate(way, victim, trial, secret_file),
            lambda: revoke(way, victim, trial, "MODIFY"),
            lambda: revoke(way, victim, trial, "SELECT"),
        ]
        trial.random.shuffle(steps)
        for step in steps:
            step()
            service.faults(clear=True)
        trial.kill(victim)
    trial.finish(expect=Expectations(exactly_once=is_exact(options)))


STAGES = (
    Stage(
        name="tokens",
        rows=(19, 28),
        fault="tokens expire before they claim to; the token endpoint answers 400, 401, 403, 408, 429, "
        "500, 502, 503, does not answer, or is out of reach; the secret is wrong and then rotated; "
        "grants are revoked and given back",
        promise="a new token, retries, or delivery is parked with its reason; nothing is lost, and rows "
        "land again",
        proof="an emulator whose rules count how often they struck; the status of the live owner; a "
        "canary as secret",
        needs=frozenset(),
        trials=1,
        run=run,
        unit="faults",
    ),
)
