"""A status for people: one line for ``repr``, a table for notebooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from ._errors import ForkedProcessError
from ._results import Status

# State of the lane, and rows stored, delivered, in quarantine, dropped and waiting.
Glance = tuple[str, int, int, int, int, int]


def line(name: str, told: Sequence[tuple[str, object]], glance: Callable[[], Glance]) -> str:
    """A ``repr`` that never raises: what is known without asking, the state of the lane, and the rows."""
    shown = [f"{key}={value!r}" for key, value in told]
    shown += [f"{key}={value}" for key, value in _seen(glance)]
    return f"<{name} {' '.join(shown)}>"


def _seen(glance: Callable[[], Glance]) -> list[tuple[str, object]]:
    try:
        state, stored, delivered, quarantined, dropped, waiting = glance()
    except ForkedProcessError:
        return [("state", "forked")]
    except Exception as error:
        # Who looks at an object wants to see it, whatever has become of it.
        return [("state", f"unknown ({type(error).__name__})")]
    seen: list[tuple[str, object]] = [("state", state), ("stored", stored), ("delivered", delivered)]
    seen += [(key, count) for key, count in (("quarantined", quarantined), ("dropped", dropped)) if count]
    return [*seen, ("waiting", waiting)]


def table(name: str, status: Callable[[], Status]) -> str:
    """A status as HTML, in which nothing that somebody named is taken for HTML."""
    try:
        rows = _rows(status())
    except Exception as error:
        rows = [("status", str(error) or type(error).__name__)]
    body = "".join(
        f"<tr><th style='text-align: left'>{escape(key)}</th>"
        f"<td style='text-align: left'>{escape(value)}</td></tr>"
        for key, value in rows
    )
    return f"<table><caption>{escape(name)}</caption><tbody>{body}</tbody></table>"


def _rows(status: Status) -> list[tuple[str, str]]:
    lane = status["lane"]
    rows = [
        ("table", status["table"]),
        ("endpoint", status["endpoint"]),
        ("directory", status["directory"]),
        ("delivery", "-" if lane is None else lane["state"]),
    ]
    if lane is not None and lane["reason"]:
        rows.append(("reason", lane["reason"]))
    rows += [(f"rows {place}", f"{count:,}") for place, count in status["rows"].items()]
    rows.append(("bytes of the log", _of(status["log_bytes"], status["wal_max_bytes"])))
    rows.append(("bytes that wait", f"{status['waiting_bytes']:,}"))
    if status["full"]:
        rows.append(("full", status["full"]))
    for key, secs in (
        ("oldest that waits", status["oldest_waiting_secs"]),
        ("full in about", status["full_in_secs"]),
        ("drained in about", status["drained_in_secs"]),
    ):
        rows.append((key, "-" if secs is None else f"{secs:,.1f} s"))
    rows += [("damage", damage) for damage in status["damage"]]
    return rows


def _of(count: int, maximum: int | None) -> str:
    return f"{count:,}" if maximum is None else f"{count:,} of {maximum:,}"
