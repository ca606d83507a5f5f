"""Which rows an operation is about, as the core takes it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from .._errors import ArgumentTypeError, ConfigurationError

RowState = Literal["waiting", "delivered", "quarantined", "dropped", "damaged"]
"""Where a row stands: ``"waiting"`` to be delivered; ``"delivered"`` and retained; ``"quarantined"``;
``"dropped"`` because the log was full and not freed yet; ``"damaged"``, in a frame that does not match its
checksum and can be read all the same."""

Reason = Literal["conversion", "row_too_large", "transmission", "schema"]
"""Why a row is in quarantine."""

Lsns = int | range | str
"""Frames: a number, a ``range`` of them, or text such as ``"3,7-9"``."""

Moment = datetime | timedelta | str
"""A time of day with its time zone; how long ago; or text such as ``"2026-11-28T14:00:00Z"`` or ``"2h"``."""

Given = tuple[str | None, str | None, str | None, str | None, list[str], list[str]]


@dataclass(frozen=True)
class Unreadable:
    """Frames that were asked for and are not there to be read."""

    directory: Path
    """The writer directory."""
    first_lsn: int
    last_lsn: int
    is_freed: bool
    """Whether they were settled and freed, because nothing retains them; otherwise something is wrong."""
    reason: str


def given(
    table: str | None,
    lsns: Lsns | None,
    since: Moment | None,
    until: Moment | None,
    states: Sequence[str] = (),
    reasons: Sequence[str] = (),
) -> Given:
    """What is chosen, as the core takes it.

    Raises:
        ArgumentTypeError: Something is of a wrong type.
        ConfigurationError: A time of day has no time zone, or a range is empty or has steps.
    """
    for name, value in (("states", states), ("reasons", reasons)):
        if isinstance(value, str):
            raise ArgumentTypeError(f"{name} is a str, allowed is: a list of them")
    return (
        table,
        None if lsns is None else _lsns(lsns),
        _moment("since", since),
        _moment("until", until),
        list(states),
        list(reasons),
    )


def _lsns(lsns: Lsns) -> str:
    if isinstance(lsns, range):
        if lsns.step != 1 or not lsns:
            raise ConfigurationError(f"lsns is {lsns}, allowed is: a range with frames in it, without steps")
        return f"{lsns.start}-{lsns.stop - 1}"
    if isinstance(lsns, bool) or not isinstance(lsns, int | str):
        raise ArgumentTypeError(f"lsns is a {type(lsns).__name__}, allowed is: int, range or str")
    return str(lsns)


def _moment(name: str, moment: Moment | None) -> str | None:
    if moment is None or isinstance(moment, str):
        return moment
    if isinstance(moment, timedelta):
        if moment < timedelta():
            raise ConfigurationError(f"{name} is {moment}, allowed is: how long ago, not less than nothing")
        return f"{moment.total_seconds():.6f}s"
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ConfigurationError(f"{name} is {moment}, allowed is: a time with its time zone")
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    raise ArgumentTypeError(f"{name} is a {type(moment).__name__}, allowed is: datetime, timedelta or str")


def path(directory: str | os.PathLike[str] | None) -> str | None:
    """The path as the core takes it."""
    return None if directory is None else os.fspath(directory)
