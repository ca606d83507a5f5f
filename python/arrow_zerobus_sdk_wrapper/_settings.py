"""The arguments of a wrapper that come from the environment and from files.

What there is, and what a text means, is in the core's registry, ``src/config/registry.rs``;
``docs/settings.md`` is made from it. Here are the types of the arguments, for those who read and check
programs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, TypedDict, TypeVar

from . import _core, _logging, _options
from ._errors import ConfigurationError

_Opened = TypeVar("_Opened")


class WrapperArguments(TypedDict, total=False):
    """The arguments of ``ZerobusWrapper``, which says what each one means."""

    endpoint: str
    table_name: str
    client_id: str | None
    client_secret: str | None
    client_secret_file: str | os.PathLike[str] | None
    unity_catalog_url: str | None
    ca_certificate_file: str | os.PathLike[str] | None
    client_certificate_file: str | os.PathLike[str] | None
    client_key_file: str | os.PathLike[str] | None
    proxy: str | None
    observability_enabled: bool
    observability_config: dict[str, Any] | None
    debug_enabled: bool
    debug_output_dir: str | os.PathLike[str] | None
    debug_flush_interval_secs: float
    debug_max_file_size: int | None
    retry_max_attempts: int
    retry_base_delay_ms: int
    retry_max_delay_ms: int
    wal_dir: str | os.PathLike[str] | None
    exclusive: bool
    durability: Literal["sync", "interval", "os"]
    sync_interval_ms: int
    wait_for: Literal["stored", "delivered"]
    validate: Literal["strict", "off"]
    timestamp_ns: Literal["floor", "error"]
    null_list: Literal["empty", "error"]
    segment_bytes: int
    wal_max_bytes: int
    wal_min_free_bytes: int
    on_full: Literal["block", "reject", "drop_oldest"]
    block_timeout_secs: float | None
    retain_delivered_secs: float
    retain_delivered_bytes: int
    schema_grace_secs: float
    quarantine_max_bytes: int
    transport: Literal["protobuf", "arrow_flight"]
    delivery: Literal["at_least_once", "exactly_once"]
    compression: Literal["none", "lz4", "zstd"] | None
    request_max_bytes: int
    max_inflight_requests: int
    streams: int
    stream_max_age_secs: float
    shutdown_timeout_secs: float
    debug_max_files_retained: int
    debug_arrow_enabled: bool
    debug_protobuf_enabled: bool
    writer_disabled: bool
    observability_endpoint: str | None
    observability_protocol: Literal["grpc", "http/protobuf"] | None
    observability_headers: str | None
    observability_service_name: str | None
    observability_resource_attributes: str | None
    observability_logs: Literal["off", "error", "warning", "info", "debug"]
    observability_interval_secs: float
    metrics_port: int | None
    metrics_address: str | None


def open_with(
    make: Callable[..., _Opened],
    arguments: WrapperArguments,
    path: str | os.PathLike[str] | None = None,
) -> _Opened:
    """Makes a wrapper of arguments, the environment and perhaps a file; what stands first here counts.

    Args:
        make: Makes it of the arguments that ``ZerobusWrapper`` has.
        arguments: What the program gives itself.
        path: A TOML or YAML file; None reads none.

    Raises:
        ConfigurationError: Something is wrong; it says what, where it was set, and what is allowed.
    """
    _logging.start()
    # None is what nobody gave: it is no other way to give a secret.
    given = [name for name, value in arguments.items() if value is not None]
    config: object = arguments.get("observability_config")
    if isinstance(config, dict):
        # Its keys are arguments, written in another way.
        given += [f"observability_{key}" for key in config]
    file = _options.optional_path("path", path)
    settings, origins = _core.resolve_settings(dict(os.environ), file, given)
    try:
        return make(**(settings | arguments))
    except ConfigurationError as error:
        setting = error.setting
        if setting is None or setting in arguments or setting not in origins:
            raise
        located = ConfigurationError(
            f"{error}; it was set {origins[setting]}", code=error.code, table=error.table
        )
        located.setting = setting
        raise located from None
