"""A local Zerobus as a child process: tests and demos run against it without a workspace.

It is the command ``zerobus-wal emulator``; rows land in Delta tables below its data directory and are
acknowledged only once they are on the disk.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import os
import queue
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from ._errors import ZerobusError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["ConnectionSettings", "Emulator", "EmulatorError"]

_CREDENTIAL_VARIABLE = "ZEROBUS_EMULATOR_CLIENT_SECRET"
_STOP_TIMEOUT_SECS = 60.0


class EmulatorError(ZerobusError, RuntimeError):
    """The emulator could not start or did not stop as it should.

    Attributes:
        exit_code: Exit code of its process, as documented for ``zerobus-wal``; ``None`` if it had not
            ended.
    """

    default_code = "emulator"

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type[EmulatorError], tuple[str, int | None]]:
        return type(self), (str(self), self.exit_code)


class ConnectionSettings(TypedDict):
    """What a wrapper needs to reach an emulator, under the names of its arguments."""

    endpoint: str
    unity_catalog_url: str
    client_id: str
    client_secret: str
    ca_certificate_file: NotRequired[str]
    client_certificate_file: NotRequired[str]
    client_key_file: NotRequired[str]


class Emulator:
    """A Zerobus service on this machine.

    Use it as a context manager; entering starts it, leaving stops it.

    The process ends with the one that started it, however that one ends.

    Args:
        data_dir: Where the tables are, as ``<data_dir>/<catalog>/<schema>/<table>``. Tables that are
            there are served. ``None`` takes a temporary directory that goes away on ``stop``.
        tables: Tables to make if they are missing: name to Delta DDL.
        auto_create: Make a missing table from the descriptor of the first stream that names it.
        client_id: The one client that gets tokens. ``None`` gives a token to every client.
        client_secret: The secret of that client.
        commit_interval_ms: How long rows wait for others before they are committed together.
        port: gRPC port on 127.0.0.1; 0 takes a free one.
        http_port: Port for tokens and the catalog on 127.0.0.1; 0 takes a free one.
        sink: ``"discard"`` acknowledges rows without keeping them, for benchmarks.
        token_lifetime_secs: How long a token is good for.
        tls: Serve both ports over TLS, with certificates of a CA that is made in the data directory; see
            ``ca_certificate_file``.
        client_certificates: Take only clients with a certificate of that CA, such as
            ``client_certificate_file``. Implies ``tls``.
        persistent_streams: Have streams that outlive their connections. ``False`` answers UNIMPLEMENTED to
            their calls, as an older service does.
        start_timeout_secs: How long ``start`` waits until the service takes connections.

    Examples:
        >>> with Emulator(tables={"main.default.events": "id BIGINT NOT NULL, name STRING"}) as emulator:
        ...     print(emulator.endpoint.startswith("http://127.0.0.1:"))
        ...     print(emulator.table_path("main.default.events").name)
        True
        events
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        tables: Mapping[str, str] | None = None,
        auto_create: bool = False,
        client_id: str | None = None,
        client_secret: str | None = None,
        commit_interval_ms: int = 200,
        port: int = 0,
        http_port: int = 0,
        sink: Literal["delta", "discard"] = "delta",
        token_lifetime_secs: int = 3600,
        tls: bool = False,
        client_certificates: bool = False,
        persistent_streams: bool = True,
        start_timeout_secs: float = 60.0,
    ) -> None:
        if (client_id is None) != (client_secret is None):
            raise ValueError("client_id and client_secret are given together or not at all")
        self._requested_data_dir = data_dir
        self._tables = dict(tables or {})
        self._auto_create = auto_create
        self._client_id = client_id
        self._client_secret = client_secret
        self._commit_interval_ms = commit_interval_ms
        self._port = port
        self._http_port = http_port
        self._sink = sink
        self._token_lifetime_secs = token_lifetime_secs
        self._tls = tls or client_certificates
        self._client_certificates = client_certificates
        self._persistent_streams = persistent_streams
        self._start_timeout_secs = start_timeout_secs
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._messages: IO[bytes] | None = None
        self._ready: dict[str, str] | None = None

    def __repr__(self) -> str:
        where = self._ready["endpoint"] if self._ready else "not started"
        return f"<Emulator {where}>"

    @property
    def endpoint(self) -> str:
        """URL of the gRPC service, as clients take it."""
        return self._answer("endpoint")

    @property
    def unity_catalog_url(self) -> str:
        """URL of the token endpoint and the catalog, as clients take it."""
        return self._answer("unity_catalog_url")

    @property
    def settings(self) -> ConnectionSettings:
        """What a wrapper needs to reach it: arguments of ``ZerobusWrapper``, without the table.

        The secret is in it.
        """
        settings: ConnectionSettings = {
            "endpoint": self.endpoint,
            "unity_catalog_url": self.unity_catalog_url,
            "client_id": self._client_id or "anybody",
            "client_secret": self._client_secret or "anything",
        }
        if self.ca_certificate_file is not None:
            settings["ca_certificate_file"] = str(self.ca_certificate_file)
        if self._client_certificates:
            settings["client_certificate_file"] = str(self.client_certificate_file)
            settings["client_key_file"] = str(self.client_key_file)
        return settings

    @property
    def data_dir(self) -> Path:
        """The directory with the tables."""
        return Path(self._answer("data_dir"))

    @property
    def ca_certificate_file(self) -> Path | None:
        """PEM file of the CA that clients must trust; None without TLS."""
        return self._file("ca_certificate_file")

    @property
    def client_certificate_file(self) -> Path | None:
        """PEM file of a certificate that a client can show; None without TLS."""
        return self._file("client_certificate_file")

    @property
    def client_key_file(self) -> Path | None:
        """PEM file of the key of that certificate; None without TLS."""
        return self._file("client_key_file")

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None else self._process.pid

    def table_path(self, name: str) -> Path:
        """Where a table is, for a reader of Delta tables.

        Args:
            name: ``catalog.schema.table``.

        Raises:
            ValueError: The name has not three parts.
        """
        parts = name.split(".")
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"table name {name!r} is not of the form catalog.schema.table")
        return self.data_dir.joinpath(*parts)

    def start(self) -> None:
        """Starts the service; it takes connections when this returns.

        Raises:
            EmulatorError: It is running already, or cannot start; the text says why.
        """
        if self._process is not None:
            raise EmulatorError("the emulator is running already")
        environment = {name: value for name, value in os.environ.items() if name != _CREDENTIAL_VARIABLE}
        if self._client_secret is not None:
            # Arguments of a process can be read by everybody on the machine, its environment cannot.
            environment[_CREDENTIAL_VARIABLE] = self._client_secret
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            self._command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            env=environment,
            # Ctrl-C is for the program that uses us; it decides when the service stops.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        try:
            ready: dict[str, str] = json.loads(self._first_line())
        except BaseException:
            self.kill()
            self._remove_temporary()
            raise
        self._ready = ready
        self._port = int(ready["endpoint"].rpartition(":")[2])
        self._http_port = int(ready["unity_catalog_url"].rpartition(":")[2])

    def stop(self) -> None:
        """Stops it cleanly: what clients have sent is committed and acknowledged first.

        Does nothing if it does not run. A temporary data directory is removed.

        Raises:
            EmulatorError: It did not end with exit code 0.
        """
        try:
            self._terminate()
        finally:
            self._remove_temporary()

    def kill(self) -> None:
        """Ends it with SIGKILL, as a power cut would; ``restart`` brings it back."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._release()

    def restart(self) -> None:
        """Starts it again on the same ports and data, after a clean stop if it still runs.

        Raises:
            EmulatorError: It was never started, or cannot stop or start.
        """
        self._answer("endpoint")
        self._terminate()
        self.start()

    def sql(self, statement: str) -> None:
        """Runs a statement, as a warehouse of the workspace would.

        ``CREATE TABLE … (…)``, ``DROP TABLE …``, ``ALTER TABLE … ADD COLUMNS (…)``,
        ``ALTER TABLE … ALTER COLUMN … DROP NOT NULL``, ``GRANT … ON TABLE … TO …`` and
        ``REVOKE … ON TABLE … FROM …`` with ``SELECT`` or ``MODIFY`` are understood.

        Args:
            statement: One statement.

        Raises:
            EmulatorError: It is not understood or cannot be done; nothing was changed.
        """
        form = {
            "grant_type": "client_credentials",
            "scope": "all-apis",
            "client_id": self.settings["client_id"],
            "client_secret": self.settings["client_secret"],
        }
        token = self._post("/oidc/v1/token", urllib.parse.urlencode(form))["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        answer = self._post("/api/2.0/sql/statements", json.dumps({"statement": statement}), headers)
        if answer["status"]["state"] != "SUCCEEDED":
            raise EmulatorError(answer["status"]["error"]["message"])

    def faults(self, *rules: Mapping[str, Any], clear: bool = False) -> list[dict[str, Any]]:
        """Lets it misbehave: adds rules, and returns all there are.

        ::

            emulator.faults({"fault": "fail_open", "code": "UNAVAILABLE", "times": 3})
            emulator.faults({"fault": "withhold_acks", "table": "main.default.events"})
            assert emulator.faults()[0]["fired"] == 3
            emulator.faults(clear=True)

        A rule has the name of a ``fault`` with its own fields, and ``table`` (default: all), ``times``
        (default: for ever), ``after`` (occasions that pass first), ``probability`` and ``seed``.
        ``docs/emulator.md`` lists the faults.

        Args:
            *rules: The rules to add.
            clear: Remove the rules that are there first. What they have begun goes on.

        Returns:
            The rules in their order, each with its ``id`` and how often it has ``fired``.

        Raises:
            EmulatorError: A rule is not understood; none was added.
        """
        if clear:
            self._request("DELETE", "/control")
        if rules:
            self._request("POST", "/control", json.dumps(rules), {"Content-Type": "application/json"})
        reports: list[dict[str, Any]] = self._request("GET", "/control")["rules"]
        return reports

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        except EmulatorError:
            # The exception of the body is the one to see.
            if exc is None:
                raise

    def _answer(self, name: str) -> str:
        if self._ready is None:
            raise EmulatorError("the emulator was not started")
        return self._ready[name]

    def _file(self, name: str) -> Path | None:
        self._answer("endpoint")
        file = (self._ready or {}).get(name)
        return None if file is None else Path(file)

    def _post(self, path: str, body: str, headers: Mapping[str, str] | None = None) -> Any:
        return self._request("POST", path, body, headers)

    def _connection(self) -> http.client.HTTPConnection:
        scheme, _, address = self.unity_catalog_url.partition("://")
        if scheme == "http":
            return http.client.HTTPConnection(address, timeout=_STOP_TIMEOUT_SECS)
        context = ssl.create_default_context(cafile=self.ca_certificate_file)
        if self.client_certificate_file is not None:
            context.load_cert_chain(self.client_certificate_file, self.client_key_file)
        return http.client.HTTPSConnection(address, timeout=_STOP_TIMEOUT_SECS, context=context)

    def _request(
        self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None
    ) -> Any:
        with contextlib.closing(self._connection()) as connection:
            try:
                connection.request(method, path, body.encode(), dict(headers or {}))
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise EmulatorError(f"the emulator did not answer: {error}") from error
        if answer.status != http.HTTPStatus.OK:
            raise EmulatorError(f"the emulator answered {answer.status}: {text.decode(errors='replace')}")
        return json.loads(text)

    def _command(self) -> list[str]:
        if self._requested_data_dir is not None:
            data_dir = os.fspath(self._requested_data_dir)
        else:
            if self._temporary is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="zerobus-emulator-")
            data_dir = self._temporary.name
        command = [sys.executable, "-m", "arrow_zerobus_sdk_wrapper", "emulator", "--exit-with-parent"]
        command += ["--data-dir", data_dir, "--port", str(self._port), "--http-port", str(self._http_port)]
        command += ["--commit-interval-ms", str(self._commit_interval_ms), "--sink", self._sink]
        command += ["--token-lifetime-secs", str(self._token_lifetime_secs)]
        for name, columns in self._tables.items():
            command += ["--table", f"{name}={columns}"]
        if self._auto_create:
            command.append("--auto-create")
        if self._tls:
            command.append("--tls")
        if self._client_certificates:
            command.append("--client-certificates")
        if not self._persistent_streams:
            command.append("--no-persistent-streams")
        if self._client_id is not None:
            command += ["--client-id", self._client_id]
        return command

    def _first_line(self) -> bytes:
        process = self._process
        if process is None or process.stdout is None:
            raise EmulatorError("the emulator is not running")
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        output = process.stdout
        # Windows cannot wait at a pipe for a while. Whoever gives up kills the process, which ends this too.
        threading.Thread(target=lambda: lines.put(output.readline()), daemon=True).start()
        try:
            line = lines.get(timeout=self._start_timeout_secs)
        except queue.Empty:
            raise EmulatorError(f"the emulator was not ready in {self._start_timeout_secs} s") from None
        if not line.endswith(b"\n"):
            exit_code = process.wait()
            raise EmulatorError(f"the emulator did not start: {self._last_words()}", exit_code)
        return line

    def _terminate(self) -> None:
        if self._process is None:
            return
        _ask_to_end(self._process)
        try:
            exit_code = self._process.wait(_STOP_TIMEOUT_SECS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise EmulatorError(f"the emulator did not stop in {_STOP_TIMEOUT_SECS} s") from None
        words = self._last_words()
        self._release()
        if exit_code != 0:
            raise EmulatorError(f"the emulator ended with exit code {exit_code}: {words}", exit_code)

    def _last_words(self) -> str:
        if self._messages is None:
            return ""
        self._messages.seek(0)
        return self._messages.read().decode(errors="replace").strip()

    def _release(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        if self._messages is not None:
            self._messages.close()
        self._process = None
        self._messages = None

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    if os.name == "nt" and process.stdin is not None:
        # It has no signal to act on. Elsewhere that is better: a forked child may hold this end too.
        process.stdin.close()
    else:
        process.terminate()
