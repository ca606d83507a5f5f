"""What have the victims said?

A victim writes one JSON line for each thing that it is about to do or has done, with a single ``write`` so
that a kill leaves whole lines only, and with the monotonic time at which it knew. The parent keeps all
lines in memory and in a file of its own, outside of every file system that is faulted. It syncs nothing: it
is not the one that dies.

Events, each with ``event`` and ``at_ns``:

``ready``      the process runs, and knows its orders: ``resident_bytes``
``opening``    it calls the constructor now
``open``       the log is open
``intent``     it calls ``send_batch`` now: ``batch``, ``producer``, ``first``, ``rows``, ``hash``, ``bad``
``ack``        ``send_batch`` has returned: ``batch``, ``lsn``, ``directory``, ``durable``
``refused``    ``send_batch`` has raised an error of the library: ``batch``, ``error``, ``code``, ``message``
``closing``    it calls ``shutdown`` now
``closed``     ``shutdown`` has returned: ``status``, as it was just before
``drained``    nothing waits any more in any log of the directory: ``statuses``
``failed``     the constructor or a call beside ``send_batch`` has raised an error of the library
``broken``     something that no victim of a sound library meets; it ends then
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = dict[str, Any]


@dataclass(slots=True)
class Batch:
    """A batch that was announced."""

    name: str
    producer: str
    first: int
    rows: int
    digest: str
    life: int
    intent_ns: int
    bad: frozenset[int] = frozenset()
    ack_ns: int | None = None
    lsn: int | None = None
    directory: str | None = None
    durable: bool = False
    refused: str | None = None
    ambiguous: str | None = None
    # Whether a cut may have taken it after a part of it was delivered: with durability "os" frames are sent
    # unsynced.
    may_be_halved: bool = False

    @property
    def is_promised(self) -> bool:
        """Whether the batch must be there: acknowledged, and nothing makes that doubtful."""
        return self.ack_ns is not None and self.ambiguous is None

    @property
    def ids(self) -> range:
        """The numbers of its rows."""
        return range(self.first, self.first + self.rows)


@dataclass(slots=True)
class Life:
    """One run of a victim, from its start to its end."""

    number: int
    kind: str
    settings: dict[str, Any]
    events: list[Event] = field(default_factory=list)
    batches: dict[str, Batch] = field(default_factory=dict)
    cut_ns: int | None = None


def _mark(life: Life, at_ns: int, *, is_cut: bool) -> None:
    """Marks what a cut makes ambiguous, of the life that was cut and of those before it."""
    durability = life.settings.get("durability", "sync")
    # An interval is over by then, unless the disk is slow; that is what the second is for.
    late_ns = int(life.settings.get("sync_interval_ms", 100)) * 1_000_000 + 1_000_000_000
    if not is_cut and durability == "interval" and life.cut_ns is None:
        # Nobody has synced what a killed process left.
        at_ns = max((int(event["at_ns"]) for event in life.events), default=0)
    for batch in life.batches.values():
        batch.may_be_halved |= durability == "os"
        if batch.ack_ns is None or batch.ambiguous is not None:
            continue
        if durability == "os":
            batch.ambiguous = "durability os, and a cut"
        elif is_cut and batch.ack_ns >= at_ns:
            batch.ambiguous = "acknowledged while the disk was cut"
        elif durability == "interval" and (is_cut or life.cut_ns is None) and batch.ack_ns >= at_ns - late_ns:
            batch.ambiguous = "durability interval, within it"


class Announcements:
    """All lives of a trial and what was said in them. Safe to use from several threads.

    Args:
        file: Where the lines are kept.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._file = file.open("a", encoding="utf-8", buffering=1)
        self.lives: list[Life] = []
        self.next_id = 1

    def begin(self, kind: str, settings: dict[str, Any]) -> Life:
        """A victim is started; secrets are not kept."""
        shown = {name: value for name, value in settings.items() if name != "client_secret"}
        with self._lock:
            life = Life(len(self.lives) + 1, kind, shown)
            self.lives.append(life)
            self._file.write(
                json.dumps({"life": life.number, "kind": kind, "settings": shown}, default=str) + "\n"
            )
            return life

    def hear(self, life: Life, line: str) -> Event:
        """Takes one line of a victim.

        Raises:
            AssertionError: It is none that a victim writes, or contradicts what was said before.
        """
        event: Event = json.loads(line)
        with self._lock:
            self._file.write(f'{{"life": {life.number}, "line": {line}}}\n')
            life.events.append(event)
            self._take(life, event)
        return event

    def cut(self, life: Life, at_ns: int) -> None:
        """The disk of this life was cut at this monotonic time.

        What was said later, or was not yet due to be synced, is ambiguous: it is marked and counted, and must
        still be there as a whole or not at all.
        """
        with self._lock:
            life.cut_ns = at_ns
            for each in self.lives:
                _mark(each, at_ns, is_cut=each is life)

    @property
    def batches(self) -> list[Batch]:
        """All batches, in the order in which they were announced."""
        with self._lock:
            return [batch for life in self.lives for batch in life.batches.values()]

    def batches_of(self, life: Life) -> list[Batch]:
        """The batches of one life, while it may go on."""
        with self._lock:
            return list(life.batches.values())

    def events(self, kind: str) -> list[Event]:
        """All events of this kind, in their order."""
        with self._lock:
            return [event for life in self.lives for event in life.events if event["event"] == kind]

    def close(self) -> None:
        """Nothing is heard after this."""
        self._file.close()

    def _take(self, life: Life, event: Event) -> None:
        match event["event"]:
            case "intent":
                name = f"{life.number}:{event['batch']}"
                if name in life.batches:
                    raise AssertionError(f"the victim announces batch {name} twice")
                life.batches[name] = Batch(
                    name=name,
                    producer=f"{life.number}:{event['producer']}",
                    first=event["first"],
                    rows=event["rows"],
                    digest=event["hash"],
                    life=life.number,
                    intent_ns=event["at_ns"],
                    bad=frozenset(event.get("bad", ())),
                )
                self.next_id = max(self.next_id, event["first"] + event["rows"])
            case "ack":
                batch = life.batches[f"{life.number}:{event['batch']}"]
                batch.ack_ns, batch.lsn = event["at_ns"], event["lsn"]
                batch.directory, batch.durable = event["directory"], event["durable"]
                if life.cut_ns is not None:
                    # It was on its way while the cut was told.
                    _mark(life, life.cut_ns, is_cut=True)
            case "refused":
                batch = life.batches[f"{life.number}:{event['batch']}"]
                batch.refused = f"{event['error']}: {event['message']}"
            case _:
                pass
