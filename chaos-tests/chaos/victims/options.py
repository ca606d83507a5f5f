"""With which settings does a victim run?

They are drawn anew for each start, for a log outlives the settings of its writers. The names are those of
the settings registry, so the same JSON serves the wheel and the Rust crate. What a trial fixes is not
drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

KIB, MIB = 1024, 1024 * 1024

Delivery = Literal["at_least_once", "exactly_once", "mixed"]


@dataclass(frozen=True)
class Options:
    """What a victim is told to do.

    Attributes:
        settings: Settings of the wrapper beside those of the connection.
        producers: Tasks, or threads, that send at the same time.
        rows: The smallest and the largest number of rows of a batch.
        api: ``"async"`` tasks or ``"sync"`` threads; the Rust victim has tasks only.
        batches: How many batches it sends in all; None: until it is told to close.
        pause_ms: How long each producer waits between two batches.
        die_at: The Rust victim kills itself when it comes to this moment of ``src/deaths.rs`` for the n-th
            time.
        canary: The Rust victim has this bug of ``src/canary.rs``.
        bad_rows: Every n-th batch has a row that the table does not take; 0: none.
        bad_text_bytes: How large the text of such a row is; 0: it has none.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    producers: int = 2
    rows: tuple[int, int] = (1, 100)
    api: Literal["async", "sync"] = "async"
    batches: int | None = None
    pause_ms: float = 0
    die_at: tuple[str, int] | None = None
    canary: str | None = None
    bad_rows: int = 0
    bad_text_bytes: int = 0

    def with_settings(self, **settings: Any) -> Options:
        """The same, with these settings."""
        return replace(self, settings={**self.settings, **settings})

    @property
    def window_bytes(self) -> int:
        """How much may be on its way: what memory and duplicates grow with."""
        settings = self.settings
        requests = settings.get("streams", 1) * settings.get("max_inflight_requests", 16)
        return int(requests * settings.get("request_max_bytes", 1_000_000))


def draw(
    random: Random,
    *,
    delivery: Delivery = "at_least_once",
    ordered: bool = False,
    dropping: bool = False,
    durability: str | None = None,
    **fixed: Any,
) -> Options:
    """Draws the options of one start.

    Args:
        random: Where the choices come from.
        delivery: ``"mixed"`` draws one of the two for each start.
        ordered: One stream only, so that the order of rows can be compared.
        dropping: A small quota at which what waits longest is dropped; otherwise nothing ever is.
        durability: Fixed, or None to draw it.
        **fixed: Settings that are not drawn.
    """
    chosen = random.choice(["at_least_once", "exactly_once"]) if delivery == "mixed" else delivery
    settings: dict[str, Any] = {
        "segment_bytes": (64 * KIB) << random.randrange(0, 6),
        "durability": durability or random.choices(["sync", "interval", "os"], [7, 2, 1])[0],
        "delivery": chosen,
        "request_max_bytes": (4 * KIB) << random.randrange(0, 8),
        "max_inflight_requests": random.choice([1, 2, 4, 8, 16, 32]),
        "stream_max_age_secs": random.choice([1, 5, 600]),
        "wait_for": random.choices(["stored", "delivered"], [9, 1])[0],
        "wal_min_free_bytes": 1 * MIB,
        "wal_max_bytes": 512 * MIB,
        "retry_base_delay_ms": 10,
        "retry_max_delay_ms": random.choice([50, 100, 200]),
        "retry_max_attempts": 1_000_000,
        "shutdown_timeout_secs": random.choice([0, 1, 2]),
        "retain_delivered_bytes": random.choice([0, 0, 1 * MIB]),
    }
    if settings["durability"] == "interval":
        settings["sync_interval_ms"] = random.choice([5, 20, 100])
    if chosen == "at_least_once":
        if not ordered:
            settings["streams"] = random.choice([1, 1, 2, 4])
        settings["transport"] = random.choices(["protobuf", "arrow_flight"], [7, 3])[0]
        if settings["transport"] == "arrow_flight":
            settings["compression"] = random.choice(["none", "lz4", "zstd"])
    if dropping:
        settings |= {"on_full": "drop_oldest", "wal_max_bytes": 1 * MIB, "segment_bytes": 64 * KIB}
        settings["retain_delivered_bytes"] = 0
    rows = random.choice([(1, 1), (1, 20), (1, 200), (100, 500)])
    return Options(
        settings=settings | fixed,
        producers=random.randint(1, 8),
        rows=rows,
        api=random.choice(["async", "async", "sync"]),
    )
