"""The names, signatures, defaults and fields that the API contract promises."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import inspect
import pickle

import pytest

import arrow_zerobus_sdk_wrapper as package
from arrow_zerobus_sdk_wrapper import TransmissionResult, ZerobusError, ZerobusWrapper

EXCEPTIONS = [
    getattr(package, name)
    for name in package.__all__
    if isinstance(getattr(package, name), type) and issubclass(getattr(package, name), Exception)
]

CONTRACT_DEFAULTS = {
    "client_id": None,
    "client_secret": None,
    "unity_catalog_url": None,
    "observability_enabled": False,
    "observability_config": None,
    "debug_enabled": False,
    "debug_output_dir": None,
    "debug_flush_interval_secs": 5,
    "debug_max_file_size": None,
    "retry_max_attempts": 5,
    "retry_base_delay_ms": 100,
    "retry_max_delay_ms": 30000,
}
DESIGN_DEFAULTS = {
    "client_secret_file": None,
    "ca_certificate_file": None,
    "client_certificate_file": None,
    "client_key_file": None,
    "proxy": None,
    "wal_dir": None,
    "exclusive": False,
    "durability": "sync",
    "sync_interval_ms": 100,
    "wait_for": "stored",
    "validate": "strict",
    "timestamp_ns": "floor",
    "null_list": "empty",
    "segment_bytes": 64 * 2**20,
    "wal_max_bytes": 8 * 2**30,
    "wal_min_free_bytes": 512 * 2**20,
    "on_full": "block",
    "block_timeout_secs": None,
    "retain_delivered_secs": 0,
    "retain_delivered_bytes": 0,
    "schema_grace_secs": 300,
    "quarantine_max_bytes": 2**30,
    "transport": "protobuf",
    "delivery": "at_least_once",
    "compression": None,
    "request_max_bytes": 1_000_000,
    "max_inflight_requests": 16,
    "streams": 1,
    "stream_max_age_secs": 600,
    "shutdown_timeout_secs": 30,
    "debug_max_files_retained": 10,
    "debug_arrow_enabled": True,
    "debug_protobuf_enabled": True,
    "writer_disabled": False,
    "observability_endpoint": None,
    "observability_protocol": None,
    "observability_headers": None,
    "observability_service_name": None,
    "observability_resource_attributes": None,
    "observability_logs": "info",
    "observability_interval_secs": 60,
    "metrics_port": None,
    "metrics_address": None,
}
RESULT = TransmissionResult(True, None, 0, 3, 512, "stored", 7, True, (range(7, 8),))


def test_the_constructor_has_every_argument_of_the_contract_with_its_default() -> None:
    parameters = dict(inspect.signature(ZerobusWrapper).parameters)
    for name in ("endpoint", "table_name"):
        parameter = parameters.pop(name)
        assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert parameter.default is inspect.Parameter.empty
    assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert defaults == CONTRACT_DEFAULTS | DESIGN_DEFAULTS


def test_sending_flushing_and_shutting_down_are_coroutines() -> None:
    for name in ("send_batch", "flush", "shutdown", "wait_delivered", "__aenter__", "__aexit__"):
        assert inspect.iscoroutinefunction(getattr(ZerobusWrapper, name)), name


def test_the_result_has_the_fields_of_the_contract_first() -> None:
    names = [field.name for field in dataclasses.fields(TransmissionResult)]
    assert names[:5] == ["success", "error", "attempts", "latency_ms", "batch_size_bytes"]
    assert names[5:] == ["state", "lsn", "durable", "lsns"]


def test_a_result_is_frozen_and_pickles() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RESULT.lsn = 8  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(RESULT)) == RESULT


def test_every_exception_of_the_contract_is_a_zerobus_error() -> None:
    names = {cls.__name__ for cls in EXCEPTIONS}
    assert names >= {
        "ZerobusError",
        "ConfigurationError",
        "AuthenticationError",
        "ConnectionError",
        "ConversionError",
        "TransmissionError",
        "RetryExhausted",
        "TokenRefreshError",
    }
    assert all(issubclass(cls, ZerobusError) for cls in EXCEPTIONS)


def test_exceptions_are_also_what_python_calls_them() -> None:
    assert issubclass(package.ConnectionError, builtins.ConnectionError)
    assert issubclass(package.ConfigurationError, ValueError)
    assert issubclass(package.FlushTimeoutError, TimeoutError)
    assert issubclass(package.ArgumentTypeError, TypeError)


@pytest.mark.parametrize("cls", EXCEPTIONS)
def test_an_exception_keeps_everything_when_it_is_pickled_or_copied(cls: type[ZerobusError]) -> None:
    error = cls("what happened", lsn=9, table="a.b.c", retryable=True)
    error.add_note("a note")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is cls
        assert str(again) == "what happened"
        assert vars(again) == vars(error)
        assert (again.code, again.lsn, again.table, again.retryable) == (cls.default_code, 9, "a.b.c", True)


def test_codes_are_unique() -> None:
    assert len({cls.default_code for cls in EXCEPTIONS}) == len(EXCEPTIONS)


def test_the_package_is_typed() -> None:
    package_dir = inspect.getfile(package).rpartition("/")[0]
    for name in ("py.typed", "_core.pyi"):
        with open(f"{package_dir}/{name}"):
            pass
