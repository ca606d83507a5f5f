"""Telemetry from the side of Python: the arguments, and the program's own meter provider.

The core exports by itself, on threads of its own. A meter provider of Python's cannot be handed to it; where
the program has one and gives no endpoint, the instruments are registered here, and the core exports spans and
log records at most. They read the core when the provider collects, in the provider's thread.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import quote

from . import _core, _options
from ._errors import ZerobusError
from ._fork import after_fork_in_child

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

_KEYS = ("endpoint", "protocol", "headers", "service_name", "resource_attributes", "logs", "interval_secs")
_LOGS = ("off", "error", "warning", "info", "debug")
_SCOPE = "arrow_zerobus_sdk_wrapper"
_GRPC_DEFAULT = "http://localhost:4317"
_HTTP_DEFAULT = "http://localhost:4318"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_METRICS_ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", _ENDPOINT)
_TRACES_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", _ENDPOINT)
_LOGS_ENDPOINTS = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", _ENDPOINT)


class _Measured(Protocol):
    """What is read: a ``ZerobusWrapper``."""

    _core: _core.Wrapper

    def status(self) -> Any: ...


class Observability:
    """What a constructor is told about telemetry, checked; the core knows the rest of the rules.

    Raises:
        ConfigurationError: A key or a type is wrong, or something is given twice.
    """

    def __init__(
        self,
        *,
        enabled: object,
        config: object,
        endpoint: object,
        protocol: object,
        headers: object,
        service_name: object,
        resource_attributes: object,
        logs: object,
        interval_secs: object,
    ) -> None:
        arguments = {
            "endpoint": endpoint,
            "protocol": protocol,
            "headers": headers,
            "service_name": service_name,
            "resource_attributes": resource_attributes,
            "logs": None if logs == "info" else logs,
            "interval_secs": None if interval_secs == 60 else interval_secs,
        }
        given = arguments | _of_config(config, arguments)
        self.enabled = _options.boolean("observability_enabled", enabled)
        self.endpoint = _options.optional_text("observability_endpoint", given["endpoint"])
        self.protocol = _options.optional_choice(
            "observability_protocol", given["protocol"], ("grpc", "http/protobuf")
        )
        self.headers = _options.optional_text("observability_headers", given["headers"])
        self.service_name = _options.optional_text("observability_service_name", given["service_name"])
        self.resource_attributes = _options.optional_text(
            "observability_resource_attributes", given["resource_attributes"]
        )
        level = given["logs"]
        self.logs = _options.choice("observability_logs", "info" if level is None else level, _LOGS)
        interval = given["interval_secs"]
        self.interval_secs = _options.seconds(
            "observability_interval_secs", 60 if interval is None else interval
        )
        self._provider = self._provider_of_the_program()
        if self.enabled and self.endpoint is None and _program_exports_logs():
            # A handler of the program's takes them from `logging`.
            self.logs = "off"
        if (
            self.enabled
            and self._provider is None
            and self.endpoint is None
            and not _has_any(_METRICS_ENDPOINTS)
        ):
            # What every exporter of OpenTelemetry does without one.
            over_http = (self.protocol or _environment_protocol()) == "http/protobuf"
            self.endpoint = _HTTP_DEFAULT if over_http else _GRPC_DEFAULT

    @property
    def core_exports_metrics(self) -> bool:
        """Whether the core exports metrics, and not the program's own provider."""
        return self._provider is None

    @property
    def core_exports(self) -> bool:
        """Whether the core exports anything.

        With a provider of the program these are spans and log records, if it is said where to.
        """
        return self.enabled and (self._provider is None or _has_any(_TRACES_ENDPOINTS + _LOGS_ENDPOINTS))

    def observe(self, wrapper: _Measured) -> None:
        """Registers the instruments with the program's own provider, if that is who exports."""
        if self._provider is not None:
            _instruments_of(self._provider).add(wrapper)

    def _provider_of_the_program(self) -> MeterProvider | None:
        if not self.enabled or self.endpoint is not None:
            return None
        try:
            from opentelemetry import metrics
        except ImportError:
            return None
        provider = metrics.get_meter_provider()
        # Those of the API itself stand in for one that nobody has set.
        return None if type(provider).__module__.startswith("opentelemetry.metrics") else provider


def _of_config(config: object, arguments: Mapping[str, object]) -> dict[str, object]:
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise _wrong(f"is a {type(config).__name__}, allowed is: a dict with {_listed()}")
    taken: dict[str, object] = {}
    for key, value in cast("dict[str, object]", config).items():
        if key not in _KEYS:
            raise _wrong(f"has the key {key!r}, allowed is: {_listed()}")
        if arguments[key] is not None:
            raise _wrong(f"has the key {key!r} and observability_{key} is given too, allowed is: one of them")
        is_dict = isinstance(value, dict)
        taken[key] = _pairs(key, cast("dict[object, object]", value)) if is_dict else value
    return taken


def _pairs(key: str, pairs: dict[object, object]) -> str:
    """A dict as the text that the settings have for it."""
    if key not in ("headers", "resource_attributes"):
        raise _wrong(f"has a dict under {key!r}, allowed is: one value")
    if not all(isinstance(text, str) for pair in pairs.items() for text in pair):
        # Not repeated: headers are secrets.
        raise _wrong(f"has something else than text under {key!r}, allowed is: names and values as str")
    return ",".join(
        f"{quote(str(name), safe='')}={quote(str(value), safe='')}" for name, value in pairs.items()
    )


def _listed() -> str:
    return ", ".join(_KEYS)


def _wrong(message: str) -> Exception:
    return _options.wrong("observability_config", f"observability_config {message}")


def _has_any(variables: tuple[str, ...]) -> bool:
    return any(os.environ.get(name) for name in variables)


def _program_exports_logs() -> bool:
    """Whether the program has set a logger provider in the package ``opentelemetry``."""
    try:
        from opentelemetry import _logs
    except ImportError:
        return False
    # Those of the API itself stand in for one that nobody has set.
    return not type(_logs.get_logger_provider()).__module__.startswith("opentelemetry._logs")


def _environment_protocol() -> str | None:
    names = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    return next((value for name in names if (value := os.environ.get(name))), None)


class _Instruments:
    """The instruments of one provider, and the wrappers that they read while those live.

    A provider never forgets an instrument, so there is one of each, however many wrappers come and go.
    """

    def __init__(self, provider: MeterProvider) -> None:
        from opentelemetry.metrics import Observation

        self._observation: Callable[[float, dict[str, str]], Observation] = Observation
        self._wrappers: weakref.WeakKeyDictionary[_Measured, dict[str, str]] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._read: dict[str, list[Observation]] = {}
        self._attributes, table = _core.metric_table()
        self._own = {name: own for name, _, _, _, own in table}
        self._first = table[0][0]
        meter = provider.get_meter(_SCOPE)
        for name, kind, unit, description, _ in table:
            _register(meter, kind, name, self._observer(name), unit, description)

    def forget(self) -> None:
        """In a forked child: the wrappers are its parent's, and so may be who holds the lock."""
        self._lock = threading.Lock()
        self._wrappers = weakref.WeakKeyDictionary()
        self._read = {}

    def add(self, wrapper: _Measured) -> None:
        status = wrapper.status()
        values = (status["table"], PurePath(status["directory"]).name)
        with self._lock:
            self._wrappers[wrapper] = dict(zip(self._attributes, values, strict=True))

    def _observer(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            with self._lock:
                # The first one of a collection reads for all, so that the numbers belong together.
                if name == self._first:
                    self._read = self._read_all()
                return self._read.get(name, [])

        return observe

    def _read_all(self) -> dict[str, list[Observation]]:
        read: dict[str, list[Observation]] = {}
        for wrapper, attributes in list(self._wrappers.items()):
            try:
                samples = wrapper._core.metrics()
            except ZerobusError:
                # A forked child has not the wrappers of its parent.
                continue
            for name, value_of_own, value in samples:
                own = self._own[name]
                more = {} if own is None or value_of_own is None else {own: value_of_own}
                read.setdefault(name, []).append(self._observation(value, attributes | more))
        return read


def _register(
    meter: Meter,
    kind: str,
    name: str,
    observer: Callable[[CallbackOptions], Iterable[Observation]],
    unit: str,
    description: str,
) -> None:
    if kind == "counter":
        meter.create_observable_counter(name, [observer], unit, description)
    elif kind == "up_down_counter":
        meter.create_observable_up_down_counter(name, [observer], unit, description)
    else:
        meter.create_observable_gauge(name, [observer], unit, description)


_made: weakref.WeakKeyDictionary[MeterProvider, _Instruments] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def _forget() -> None:
    global _making
    _making = threading.Lock()
    for instruments in list(_made.values()):
        instruments.forget()


after_fork_in_child(_forget)


def _instruments_of(provider: MeterProvider) -> _Instruments:
    with _making:
        if provider not in _made:
            _made[provider] = _Instruments(provider)
        return _made[provider]
