"""How does a victim reach the service when somebody stands in between?

A ``Way`` is a service with two proxies in front of it, one for its streams and one for its tokens and its
catalog. The victim knows the proxies only, so the service can go and come, and every byte can be held up,
lost or changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arrow_zerobus_sdk_wrapper import admin

from .faults.proxy import Mode, Proxy

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .service import Service
    from .trial import Trial
    from .victims.options import Delivery, Options
    from .victims.victim import Victim

__all__ = [
    "Way",
    "directory_of",
    "either",
    "fired",
    "is_exact",
    "lane",
    "log_bytes",
    "resident_bytes",
    "steady",
    "until",
    "wait_for_lane",
]

DEADLINE_SECS = 60.0
_POLL_SECS = 0.01


def until(
    condition: Callable[[], bool],
    what: Callable[[], str] | str,
    timeout: float = DEADLINE_SECS,
) -> None:
    """Waits for a condition.

    Args:
        condition: What is waited for.
        what: What is said if it does not come; a callable is asked then.
        timeout: In seconds.

    Raises:
        AssertionError: It did not come in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what if isinstance(what, str) else what()}")
        time.sleep(_POLL_SECS)


def steady(trial: Trial, *, delivery: Delivery = "mixed", **fixed: Any) -> Options:
    """Options of a victim that goes on sending, a little at a time, whatever becomes of delivery.

    A stream ends because of a fault, unless its age is fixed.
    """
    settings: dict[str, Any] = {"durability": "sync", "wait_for": "stored", "stream_max_age_secs": 600}
    options = trial.options(delivery=delivery, **(settings | fixed))
    return replace(
        options,
        producers=min(options.producers, 4),
        rows=trial.random.choice([(1, 1), (1, 20), (1, 100)]),
        pause_ms=trial.random.choice([3, 10, 20]),
    )


def is_exact(options: Options) -> bool:
    """Whether each row is to land once."""
    return bool(options.settings["delivery"] == "exactly_once")


def either(trial: Trial) -> str:
    """One of the two kinds of victims."""
    return trial.random.choice(["wheel", "rust"])


def resident_bytes(victim: Victim) -> int:
    """The memory of a victim that runs."""
    status = Path(f"/proc/{victim.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def log_bytes(trial: Trial) -> int:
    """What the logs take on the disk."""
    total = 0
    for path in trial.wal_dir.rglob("segment-*.wal"):
        # It may be reclaimed between its name and its size.
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def directory_of(victim: Victim) -> Path:
    """The writer directory of a victim that has opened its log."""
    opened = victim.wait_for("open")
    if opened is None:
        raise AssertionError(f"the victim has not opened its log; {victim.complaints()}")
    return Path(opened["directory"])


def lane(victim: Victim) -> dict[str, Any]:
    """What the delivery of a victim that runs is doing, as its owner tells."""
    (status,) = admin.status(directory_of(victim))
    return {"state": "none"} if status.lane is None else dataclasses.asdict(status.lane)


def wait_for_lane(victim: Victim, state: str, why: str) -> dict[str, Any]:
    """Waits until the delivery of a victim is in a state.

    Raises:
        AssertionError: It did not come to that.
    """
    seen: dict[str, Any] = {}

    def is_there() -> bool:
        seen.update(lane(victim))
        return bool(seen["state"] == state)

    until(is_there, lambda: f"a lane that is {state}, {why}; it is {seen}; {victim.complaints()}")
    return seen


def fired(service: Service) -> int:
    """How often the rules of a service have struck since they were added."""
    return sum(int(rule["fired"]) for rule in service.faults())


class Way:
    """A service, and a proxy before each of its ports.

    Use it as a context manager.

    Args:
        service: The service; it runs.
        seed: What the chance of the proxies follows from.
        address: What the proxies listen on.

    Attributes:
        streams: The proxy for gRPC.
        tokens: The proxy for tokens and the catalog.
    """

    def __init__(self, service: Service, seed: int, address: str = "127.0.0.1") -> None:
        self.service = service
        self._address = address
        grpc, http = (int(url.rpartition(":")[2]) for url in (service.endpoint, service.unity_catalog_url))
        self._scheme = service.endpoint.partition(":")[0]
        self.streams = Proxy(grpc, seed, address=address)
        self.tokens = Proxy(http, seed + 1, address=address)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.streams)
        self._stack.enter_context(self.tokens)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def connection(self) -> dict[str, Any]:
        """What a victim needs to go this way, with the secret."""
        return {
            **self.service.settings,
            "endpoint": f"{self._scheme}://{self._address}:{self.streams.port}",
            "unity_catalog_url": f"{self._scheme}://{self._address}:{self.tokens.port}",
        }

    @property
    def disconnects(self) -> int:
        """How many connections were cut off."""
        return self.streams.counts["resets"] + self.tokens.counts["resets"]

    def set(self, mode: Mode) -> None:
        """The mode of both proxies from now on."""
        self.tokens.set(mode)
        self.streams.set(mode)

    def heal(self) -> None:
        """Everything goes through from now on."""
        self.tokens.heal()
        self.streams.heal()

    def commits(self) -> int:
        """How many times rows have landed."""
        with contextlib.suppress(FileNotFoundError):
            return sum(1 for entry in (self.service.table_directory / "_delta_log").glob("*.json"))
        return 0

    def wait_for_commit(self, why: str, victim: Victim, timeout: float = DEADLINE_SECS) -> None:
        """Waits until rows land that have not landed yet.

        Args:
            why: What they show, for the error.
            victim: Whose rows they are.
            timeout: In seconds.

        Raises:
            AssertionError: None did.
        """
        before = self.commits()
        until(
            lambda: self.commits() > before or not victim.is_running,
            lambda: f"no row lands {why}; {victim.complaints()}",
            timeout,
        )
        if not victim.is_running:
            raise AssertionError(f"the victim ended by itself {why}; {victim.complaints()}")

    def wait_for_acknowledgements(self, more: int, why: str, victim: Victim) -> None:
        """Waits until so many more batches are stored.

        Raises:
            AssertionError: They were not.
        """
        before = victim.acknowledged
        until(
            lambda: victim.acknowledged >= before + more or not victim.is_running,
            lambda: f"no batch is stored {why}; {victim.complaints()}",
        )
        if not victim.is_running:
            raise AssertionError(f"the victim ended by itself {why}; {victim.complaints()}")
