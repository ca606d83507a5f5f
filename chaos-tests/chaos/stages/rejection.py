"""Rows that are refused for good are in quarantine with the reason, and all others land.

Method: the service refuses rows whose numbers are drawn before they are sent, and single requests with the
codes that mean "for good"; batches have rows that the table does not take, without a text or with one that
fits into no request. Or the table is not the one that the victim writes to: a column is missing or has
another type, and that is mended before the time that a schema is waited for is over, or after it. Columns
are added and made nullable while rows flow. At the end every row in quarantine must be one that was to be
refused, as it was sent, and each of those must be there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from arrow_zerobus_sdk_wrapper import admin

from .. import wal_reader
from ..rows import COLUMNS, TABLE
from ..stage import Stage
from ..verdict import Expectations
from ..way import Way, directory_of, fired, is_exact, steady, until

if TYPE_CHECKING:
    from ..trial import Trial
    from ..victims.victim import Victim

_REFUSED = 8
# The numbers that rows have soon.
_SOON = 400
# A request with such a code is refused for good, though nothing is wrong with its rows.
_FOR_GOOD = ("INVALID_ARGUMENT", "OUT_OF_RANGE")
_MIB = 1024 * 1024
# More than the service takes in one request.
_TOO_LARGE_BYTES = 11 * _MIB
_WRONG_COLUMNS = ("id BIGINT NOT NULL", "id BIGINT NOT NULL, content BIGINT NOT NULL")


def quarantined_rows(trial: Trial) -> set[int]:
    """The rows that are in quarantine now."""
    logs = wal_reader.logs(trial.wal_dir)
    return {row_id for log in logs for _, _, row_id, _, _ in log.quarantined}


def drain(trial: Trial, victim: Victim) -> None:
    """Has everything that is stored come to its end, while refusals still hold."""
    victim.command("drain")
    if victim.wait_for("drained") is None:
        raise AssertionError(f"the victim has ended before it has drained; {victim.complaints()}")
    victim.close()
    trial.count("victims that drained")


def refuse_once(way: Way, victim: Victim, code: str) -> None:
    """One request is refused for good, and taken when its rows are sent again."""
    struck = fired(way.service)
    way.service.faults({"fault": "fail_stream", "code": code, "times": 1})
    until(lambda: fired(way.service) > struck, f"a request that is refused with {code}")
    way.wait_for_commit(f"after a request was refused with {code}", victim)


def rows_trial(trial: Trial) -> None:
    """Rows that the service refuses, rows that do not convert, and a table that grows meanwhile."""
    service = trial.service()
    way = Way(service, 0)
    # More than one row in a batch: a row that is refused alone is refused.
    options = replace(
        # A window whose memory may hold a text that is too large, a few times.
        steady(
            trial,
            request_max_bytes=_MIB,
            max_inflight_requests=32,
            segment_bytes=16 * _MIB,
            validate="off",
        ),
        rows=(20, 60),
        producers=1,
        bad_rows=40,
        bad_text_bytes=trial.random.choice([0, _TOO_LARGE_BYTES]),
    )
    first = trial.oracle.next_id
    refused = frozenset(trial.random.sample(range(first, first + _SOON), _REFUSED))
    service.faults(*({"fault": "reject_records", "column": "id", "equals": row_id} for row_id in refused))
    victim = trial.victim(options)
    way.wait_for_commit("beside refused rows", victim)
    until(
        lambda: sum(rule["fired"] > 0 for rule in service.faults()) == _REFUSED,
        lambda: f"rows that are refused; {service.faults()}; {victim.complaints()}",
    )
    for code in _FOR_GOOD:
        refuse_once(way, victim, code)
        trial.count("requests refused once")
    service.sql(f"ALTER TABLE {TABLE} ADD COLUMNS (more STRING)")
    trial.count("tables altered")
    way.wait_for_commit("after a column was added", victim)
    victim.wait_for("ack", times=options.bad_rows)
    drain(trial, victim)
    found = quarantined_rows(trial)
    bad = {row_id for batch in trial.oracle.batches for row_id in batch.bad}
    # While rows are isolated a request can be a single row: what is refused once then is refused for good.
    alone = frozenset(found - refused - bad)
    if not bad or not found >= refused | bad or len(alone) > len(_FOR_GOOD):
        raise AssertionError(
            f"in quarantine are {sorted(found)}; refused were {sorted(refused)}, bad {sorted(bad)}"
        )
    trial.count("rows that were a request when one was refused", len(alone))
    trial.count("rows refused by the service", len(refused))
    trial.count("faults", len(refused) + len(bad) + len(_FOR_GOOD) + 1)
    trial.count("rows that do not convert", len(bad))
    trial.finish(expect=Expectations(exactly_once=is_exact(options), refused=refused | alone))


def table_trial(trial: Trial) -> None:
    """A table that the rows do not fit, and that is mended in time or too late."""
    service = trial.service(tables={TABLE: trial.random.choice(_WRONG_COLUMNS)})
    way = Way(service, 0)
    is_late = trial.index % 4 == 3
    options = steady(trial, validate="off", schema_grace_secs=1 if is_late else 300)
    victim = trial.victim(options)
    way.wait_for_acknowledgements(20, "that the table does not take", victim)

    def quarantined() -> int:
        (status,) = admin.status(directory_of(victim))
        return status.rows.quarantined

    if is_late:
        until(lambda: quarantined() > 0, lambda: f"rows in quarantine; {victim.complaints()}")
    # No row has landed yet, so none goes with the table.
    service.sql(f"DROP TABLE {TABLE}")
    service.sql(f"CREATE TABLE {TABLE} ({COLUMNS})")
    way.wait_for_commit("once the table is mended", victim)
    # What was stored until then may have been refused.
    refused = frozenset(range(trial.oracle.next_id)) if is_late else frozenset()
    service.sql(f"ALTER TABLE {TABLE} ADD COLUMNS (more STRING)")
    way.wait_for_commit("after a column was added", victim)
    service.sql(f"ALTER TABLE {TABLE} ALTER COLUMN content DROP NOT NULL")
    way.wait_for_commit("after a column was made nullable", victim)
    trial.count("tables altered", 4)
    trial.count("faults", 4)
    drain(trial, victim)
    trial.finish(expect=Expectations(exactly_once=is_exact(options), refused=refused))


def run(trial: Trial) -> None:
    """Every other trial is about the table."""
    if trial.index % 2 == 1:
        table_trial(trial)
    else:
        rows_trial(trial)


STAGES = (
    Stage(
        name="rejection",
        rows=(20,),
        fault="the service refuses rows and requests for good; rows do not convert, or fit into no "
        "request; the table lacks a column or has it with another type, and is altered while rows "
        "flow",
        promise="what is refused is in quarantine with the reason, everything else lands, no endless retry",
        proof="an emulator that refuses rows that were drawn; quarantine and table against what was sent",
        needs=frozenset(),
        trials=4,
        run=run,
        unit="faults",
    ),
)
