# The extension module. Private: use the names of the package.

from typing import Any, TypedDict

__version__: str

class Settings(TypedDict):
    # The settings, under their public names; their types were checked.

    endpoint: str
    table_name: str
    client_id: str | None
    client_secret: str | None
    client_secret_file: str | None
    ca_certificate_file: str | None
    client_certificate_file: str | None
    client_key_file: str | None
    proxy: str | None
    unity_catalog_url: str | None
    wal_dir: str | None
    durability: str
    sync_interval_ms: int
    wait_for: str
    validate: str
    timestamp_ns: str
    null_list: str
    segment_bytes: int
    wal_max_bytes: int
    wal_min_free_bytes: int
    on_full: str
    block_timeout_secs: float | None
    retain_delivered_secs: float
    retain_delivered_bytes: int
    schema_grace_secs: float
    quarantine_max_bytes: int
    transport: str
    delivery: str
    compression: str | None
    request_max_bytes: int
    max_inflight_requests: int
    streams: int
    stream_max_age_secs: float
    retry_max_attempts: int
    retry_base_delay_ms: int
    retry_max_delay_ms: int
    shutdown_timeout_secs: float

class CompletionQueue:
    # The outcomes for one event loop.

    def __init__(self, result_class: type) -> None: ...
    def fileno(self) -> int: ...
    def take(self, limit: int) -> list[Any]: ...
    def start(self) -> None: ...
    def cancel(self, token: int) -> None: ...
    def close(self) -> None: ...

class Job:
    # A call under way.

    def cancel(self) -> None: ...

class Wrapper:
    # A wrapper of this process. Its calls return at once; the outcome stands in `queue` later.
    # Sends begin with `queue.start()`, at the latest when the turn of the loop ends in which the first came.

    def __init__(self, settings: Settings) -> None: ...
    def send_batch(
        self, batch: object, exported: tuple[object, object] | None, queue: CompletionQueue, token: int
    ) -> bool: ...
    def wait_delivered(self, lsn: int, timeout: float | None, queue: CompletionQueue, token: int) -> Job: ...
    def flush(self, timeout: float | None, queue: CompletionQueue, token: int) -> Job: ...
    def shutdown(self, queue: CompletionQueue, token: int) -> Job: ...
    def shutdown_blocking(self) -> None: ...
    def update_credentials(self, client_id: str | None, client_secret: str) -> None: ...
    def status_json(self) -> str: ...

# Runs `zerobus-wal`, its name first in `args`; returns its exit code.
def run_cli(args: list[str]) -> int: ...
