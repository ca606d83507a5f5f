# The extension module. Private: use the names of the package.

import asyncio
from typing import Any, Self, TypeAlias, TypedDict, final, type_check_only

__all__ = [
    "CompletionQueue",
    "ExportedArray",
    "Job",
    "Rows",
    "Wrapper",
    "__version__",
    "admin_adopt",
    "admin_check",
    "admin_config_check",
    "admin_config_show",
    "admin_doctor",
    "admin_export",
    "admin_find_logs",
    "admin_inspect_frame",
    "admin_inspect_ledger",
    "admin_inspect_schema",
    "admin_inspect_segment",
    "admin_ls",
    "admin_pause",
    "admin_quarantine_drop",
    "admin_quarantine_ls",
    "admin_quarantine_show",
    "admin_reclaim",
    "admin_reconcile",
    "admin_remap",
    "admin_repair",
    "admin_replay",
    "admin_replay_dry_run",
    "admin_resume",
    "admin_status",
    "admin_verify",
    "metric_table",
    "registry",
    "resolve_settings",
    "run_cli",
    "set_log_level",
    "start_log",
    "take_log",
    "wake_log",
]

__version__: str

@type_check_only
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
    exclusive: bool
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
    debug_enabled: bool
    debug_output_dir: str | None
    debug_flush_interval_secs: float
    debug_max_file_size: int | None
    debug_max_files_retained: int
    debug_arrow_enabled: bool
    debug_protobuf_enabled: bool
    writer_disabled: bool
    observability_enabled: bool
    observability_endpoint: str | None
    observability_protocol: str | None
    observability_headers: str | None
    observability_service_name: str | None
    observability_resource_attributes: str | None
    observability_logs: str
    observability_interval_secs: float
    metrics_port: int | None
    metrics_address: str | None

@final
class CompletionQueue:
    # The outcomes for one event loop.

    def __new__(cls, result_class: type) -> Self: ...
    def fileno(self) -> int: ...
    def settle(self, waiting: dict[int, asyncio.Future[Any]], limit: int) -> None: ...
    def take(self, limit: int) -> list[Any]: ...
    def start(self) -> None: ...
    def cancel(self, token: int) -> None: ...
    def close(self) -> None: ...

@final
class ExportedArray:
    # Memory for an ArrowArray of the C data interface. What is in it, and was not taken, goes with it.

    def __new__(cls) -> Self: ...
    @property
    def address(self) -> int: ...

@final
class Job:
    # A call under way.

    def cancel(self) -> None: ...

@final
class Rows:
    # A record batch that every Arrow library takes.

    def __len__(self) -> int: ...
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

@final
class Wrapper:
    # A wrapper of this process. Its calls return at once; the outcome stands in `queue` later.
    # Sends begin with `queue.start()`, at the latest when the turn of the loop ends in which the first came.

    def __new__(cls, settings: Settings, exports_metrics: bool) -> Self: ...
    def send_batch(
        self,
        batch: object,
        exported: tuple[object, object] | None,
        queue: CompletionQueue,
        token: int,
        traceparent: str | None = None,
    ) -> bool: ...
    def wait_delivered(self, lsn: int, timeout: float | None, queue: CompletionQueue, token: int) -> Job: ...
    def flush(self, timeout: float | None, queue: CompletionQueue, token: int) -> Job: ...
    def shutdown(self, queue: CompletionQueue, token: int) -> Job: ...
    def update_credentials(self, client_id: str | None, client_secret: str) -> None: ...
    def status_json(self) -> str: ...
    def metrics(self) -> list[tuple[str, str | None, float]]: ...
    def glance(self) -> tuple[str, int, int, int, int, int]: ...

# The attributes of every metric, and each one that is observed: name, kind, unit, description, own attribute.
def metric_table() -> tuple[tuple[str, str], list[tuple[str, str, str, str, str | None]]]: ...

# The arguments that an environment and a file give beside `arguments`, and for each where it was set.
def resolve_settings(
    environment: dict[str, str], file: str | None, arguments: list[str]
) -> tuple[dict[str, Any], dict[str, str]]: ...

# The registry of settings, for tests.
def registry() -> list[dict[str, Any]]: ...

# The core's log: a descriptor that becomes readable, the least level that is wanted, a byte into it, and JSON
# out of it.
def start_log() -> int: ...
def set_log_level(least: int) -> None: ...
def wake_log() -> None: ...
def take_log(limit: int) -> bytes: ...

# Runs `zerobus-wal`, its name first in `args`; returns its exit code.
def run_cli(args: list[str]) -> int: ...

# The operations of `admin`: what each found, as JSON. No directory means the one that wrappers use.
def admin_find_logs(directory: str | None) -> str: ...
def admin_status(directory: str | None) -> str: ...
def admin_check(
    directory: str | None, max_age_secs: float | None, max_depth: int | None, max_quarantine: int | None
) -> str: ...
def admin_ls(directory: str | None) -> str: ...
def admin_inspect_segment(path: str) -> str: ...
def admin_inspect_frame(lsn: int, directory: str | None) -> tuple[str, Rows]: ...
def admin_inspect_ledger(directory: str | None) -> str: ...
def admin_inspect_schema(directory: str | None) -> str: ...
def admin_verify(directory: str | None) -> str: ...
def admin_config_show(environment: dict[str, str], file: str | None) -> str: ...
def admin_config_check(environment: dict[str, str], file: str | None) -> None: ...
def admin_pause(directory: str, reason: str | None) -> str: ...
def admin_resume(directory: str) -> str: ...
def admin_reclaim(directory: str, executes: bool) -> str: ...
def admin_adopt(directory: str | None) -> str: ...
def admin_repair(
    directory: str,
    executes: bool,
    endpoint: str | None,
    unity_catalog_url: str | None,
    backup: str | None,
) -> str: ...
def admin_remap(
    directory: str | None,
    old: str,
    new: str,
    endpoint: str | None,
    unity_catalog_url: str | None,
    executes: bool,
) -> str: ...
def admin_doctor(directory: str | None, settings: dict[str, Any], offline: bool) -> str: ...

# Table, frames, since, until, states and reasons, each as text.
_Rows: TypeAlias = tuple[str | None, str | None, str | None, str | None, list[str], list[str]]
# Another table, where the log is kept, rows per second, whether duplicates are allowed, whether it is done
# anew, seconds.
_How: TypeAlias = tuple[str | None, str | None, int | None, bool, bool, float | None]

def admin_export(
    directory: str | None, rows: _Rows, output: str, to: str, force: bool, with_position: bool
) -> str: ...
def admin_quarantine_ls(directory: str | None, rows: _Rows) -> str: ...
def admin_quarantine_show(directory: str | None, rows: _Rows, limit: int) -> list[Any]: ...
def admin_quarantine_drop(directory: str | None, rows: _Rows, everything: bool, execute: bool) -> str: ...
def admin_replay(directory: str | None, rows: _Rows, how: _How, settings: dict[str, Any]) -> str: ...
def admin_replay_dry_run(directory: str | None, rows: _Rows, how: _How, settings: dict[str, Any]) -> str: ...
def admin_reconcile(
    directory: str | None, rows: _Rows, delta: str | None, counts: str | None, keys: list[str]
) -> str: ...
