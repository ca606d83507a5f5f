"""What is there before a block of a page is run? Its mark names one of the functions in ``SETUPS``.

Each takes a ``World`` (``docs_world.py``), a directory and an environment with nothing in them, and puts
there what such blocks need. What stands on the pages for something of this run, such as a URL, goes into
``World.typed_as``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import sysconfig
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper, TransmissionError, admin
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import COLUMNS, TABLE, make_batch, offline_settings, until

if TYPE_CHECKING:
    from docs_world import World

ROOT = Path(__file__).parents[2]
# What stands on the pages for the ports of a local Zerobus, and for the two hosts of a real one.
GRPC_PORT, HTTP_PORT = ":41231", ":39817"
SERVICE_HOST = "1234567890.zerobus.eu-west-1.cloud.databricks.com"
WORKSPACE_HOST = "dbc-a1b2c3d4.cloud.databricks.com"
CLIENT: dict[str, Any] = {"client_id": "id", "client_secret": "s3cret"}
NARROW = COLUMNS.replace("BIGINT", "BIGINT NOT NULL")
_NAMES = """\
import os
import pyarrow as pa
from arrow_zerobus_sdk_wrapper import *
from arrow_zerobus_sdk_wrapper.emulator import Emulator
TABLE = {table!r}
settings = {settings!r}
batch = pa.record_batch({{"id": [1, 2, 3], "name": ["a", "b", None]}})
"""
_UNTIL = """\
import time
def until(is_so):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""
_WRAPPER = """\
wrapper = SyncZerobusWrapper(**settings)
until(lambda: wrapper.status()["table_schema"]["columns"] is not None)
wrapper.send_batch(pa.record_batch({"id": pa.array([7, None], pa.int64()), "name": ["a", "b"]}))
try:
    wrapper.flush()
except TransmissionError:
    pass
wrapper.shutdown()
wrapper = ZerobusWrapper(**settings)
"""
_EMULATOR = """\
emulator = Emulator(tables={TABLE: "id BIGINT, name STRING"})
emulator.start()
"""
_ADOPTS = """\
wrapper = SyncZerobusWrapper(**settings)
until(lambda: wrapper.status()["adoption"]["drained_logs"] == 1)
"""
_IS_KILLED = """\
import signal
SyncZerobusWrapper(**settings).send_batch(pa.record_batch({"id": range(4200), "name": ["a"] * 4200}))
os.kill(os.getpid(), signal.SIGKILL)
"""


def serve(world: World, columns: str = COLUMNS, *, is_secured: bool = False) -> Emulator:
    """Starts a local Zerobus and puts its address and credentials into the environment."""
    tables = world.directory / "tables"
    emulator = Emulator(data_dir=tables, tables={TABLE: columns}, tls=is_secured, **CLIENT)
    world.stack.enter_context(emulator)
    connection: dict[str, Any] = {**emulator.settings}
    world.settings = {"table_name": TABLE, "wal_dir": str(world.directory / "wal"), **connection}
    world.environment |= {
        "ZEROBUS_ENDPOINT": emulator.endpoint,
        "ZEROBUS_TABLE_NAME": TABLE,
        "UNITY_CATALOG_URL": emulator.unity_catalog_url,
        "ZEROBUS_CLIENT_ID": CLIENT["client_id"],
        "ZEROBUS_CLIENT_SECRET": CLIENT["client_secret"],
    }
    world.typed_as |= {
        GRPC_PORT: _port_of(emulator.endpoint),
        HTTP_PORT: _port_of(emulator.unity_catalog_url),
    }
    return emulator


def _port_of(url: str) -> str:
    return ":" + url.rpartition(":")[2]


def leave(
    world: World,
    emulator: Emulator,
    waiting: Sequence[pa.RecordBatch],
    sent: Sequence[pa.RecordBatch] = (),
    **settings: Any,
) -> None:
    """Has a program leave a log in ``wal``: these batches wait in it, and those were sent before."""
    # Where the command looks when nobody says where.
    default = world.directory / ".local" / "state"
    default.mkdir(parents=True)
    (default / "arrow-zerobus").symlink_to(world.directory / "wal")
    with SyncZerobusWrapper(**world.settings, **settings, shutdown_timeout_secs=0) as wrapper:
        until(lambda: wrapper.status()["table_schema"]["columns"] is not None, "the columns")
        for batch in sent:
            wrapper.send_batch(batch)
        # It tells of rows that are in quarantine then.
        with contextlib.suppress(TransmissionError):
            wrapper.flush()
        emulator.kill()
        for batch in waiting:
            wrapper.send_batch(batch)
    emulator.restart()


def sensors(first: int) -> pa.RecordBatch:
    """A batch of 250 rows of the test table."""
    ids = range(first, first + 250)
    return pa.record_batch({"id": pa.array(ids, pa.int64()), "name": [f"sensor {i % 7}" for i in ids]})


def nameless() -> pa.RecordBatch:
    """A row that a table does not take whose ids may not be null."""
    return pa.record_batch({"id": pa.array([None], pa.int64()), "name": ["a"]})


def empty(world: World) -> None:
    """An empty directory. The default of ``python`` blocks."""


def log(world: World) -> None:
    """A local Zerobus, and in ``wal`` three rows that a program left.

    The default of ``console`` and ``bash`` blocks.
    """
    leave(world, serve(world), [make_batch()])


def half(world: World) -> None:
    """As ``log``, but four frames of 250 rows, of which two are delivered."""
    leave(world, serve(world), [sensors(500), sensors(750)], [sensors(0), sensors(250)])


def damaged(world: World) -> None:
    """As ``half``, but a bit has flipped in the rows of frame 3."""
    half(world)
    (segment,) = (world.directory / "wal").rglob("segment-*.wal")
    (frame,) = [piece for piece in admin.inspect_segment(segment).pieces if piece.lsn == 3]
    data = bytearray(segment.read_bytes())
    data[frame.offset + frame.bytes // 2] ^= 1
    segment.write_bytes(data)


def owner(world: World) -> None:
    """As ``log``, but the owner of the log lives, and its service is away."""
    serve(world)
    wrapper = world.stack.enter_context(SyncZerobusWrapper(**offline_settings(world.directory)))
    wrapper.send_batch(make_batch())


def quarantine(world: World) -> None:
    """As ``log``, with a row in the quarantine of that log besides."""
    leave(world, serve(world, NARROW), [make_batch()], [nameless()])


def replay(world: World) -> None:
    """As ``quarantine``, but the table takes that row by now. Rows that were delivered are retained.

    There are a second table, ``main.default.copy``, and a second Zerobus under the URLs of a real one.
    """
    emulator = serve(world, NARROW)
    leave(world, emulator, [make_batch(3)], [make_batch(), nameless()], retain_delivered_bytes=1 << 20)
    emulator.sql(f"ALTER TABLE {TABLE} ALTER COLUMN id DROP NOT NULL")
    emulator.sql(f"CREATE TABLE main.default.copy ({COLUMNS})")
    other = Emulator(data_dir=world.directory / "others", tables={TABLE: COLUMNS}, **CLIENT)
    world.stack.enter_context(other)
    world.typed_as |= {
        f"https://{SERVICE_HOST}": other.endpoint,
        f"https://{WORKSPACE_HOST}": other.unity_catalog_url,
        "/tables/events": str(emulator.table_path(TABLE)),
    }


def workspace(world: World) -> None:
    """As ``log``, but over TLS and under the URLs of a real service; names as in ``settings``.

    ``DATABRICKS_CLIENT_ID`` and ``DATABRICKS_CLIENT_SECRET`` are good, the secret in ``/run/secrets/zerobus``
    is not any more.
    """
    emulator = serve(world, is_secured=True)
    # Its certificate is for this name too, and whoever runs here trusts its CA as one of the system.
    for setting in ("endpoint", "unity_catalog_url"):
        world.settings[setting] = world.settings[setting].replace("127.0.0.1", "localhost")
    authority = str(world.settings["ca_certificate_file"])
    secret = world.directory / "secret"
    secret.write_text("0ld")
    world.environment |= {
        "SSL_CERT_FILE": authority,
        "CURL_CA_BUNDLE": authority,
        "DATABRICKS_CLIENT_ID": CLIENT["client_id"],
        "DATABRICKS_CLIENT_SECRET": CLIENT["client_secret"],
    }
    for name in ("ZEROBUS_ENDPOINT", "UNITY_CATALOG_URL"):
        del world.environment[name]
    world.preamble = _NAMES.format(table=TABLE, settings=world.settings)
    service, catalog = world.settings["endpoint"], world.settings["unity_catalog_url"]
    world.typed_as |= {
        f"https://{SERVICE_HOST}": service,
        f"https://{WORKSPACE_HOST}": catalog,
        SERVICE_HOST: "localhost",
        "/run/secrets/zerobus": str(secret),
        "/var/lib/events/wal": str(world.directory / "events"),
    }
    world.replaced |= {
        service: f"https://{SERVICE_HOST}",
        catalog: f"https://{WORKSPACE_HOST}",
        service.removeprefix("https://"): f"{SERVICE_HOST}:443",
        catalog.removeprefix("https://"): f"{WORKSPACE_HOST}:443",
    }
    leave(world, emulator, [make_batch()])


def file(world: World) -> None:
    """A ``zerobus.toml`` that does not say everything."""
    path = world.directory / "zerobus.toml"
    path.write_text(
        f'endpoint = "https://{SERVICE_HOST}"\ntable_name = "{TABLE}"\n'
        'client_id = "my-principal"\nclient_secret = "s3cret"\n'
    )
    path.chmod(0o600)


def shells(world: World) -> None:
    """The directories from which shells load completions."""
    for place in (".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"):
        (world.directory / place).mkdir(parents=True)


def chaos(world: World) -> None:
    """The directory of the chaos suite, with a report of a trial that fails no more."""
    # The suite takes the directory above its own for the checkout, and writes there.
    world.at = world.directory / "chaos-tests"
    world.at.mkdir()
    (world.at / "chaos").symlink_to(ROOT / "chaos-tests" / "chaos")
    (world.directory / ".venv").symlink_to(sys.prefix)
    report = world.directory / "target" / "chaos" / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"failures": [{"stage": "limit-file-size", "seed": 7, "trial": 0}]}))


def environment(world: World) -> None:
    """A new environment of Python without anything of ours, and an index with the wheel of this checkout.

    What else the pages install is there already: nothing is fetched.
    """
    home = world.directory / "environment"
    venv.create(home, with_pip=True)
    (here, there) = (
        Path(sysconfig.get_path("purelib", vars={"base": str(prefix)})) for prefix in (sys.prefix, home)
    )
    for found in here.iterdir():
        if not found.name.startswith("arrow_zerobus") and not (there / found.name).exists():
            (there / found.name).symlink_to(found)
    world.environment |= {
        "PATH": f"{home / 'bin'}{os.pathsep}{world.environment['PATH']}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_FIND_LINKS": str(ROOT / "target" / "wheels"),
        "PIP_NO_INDEX": "1",
    }


def settings(world: World) -> None:
    """For ``python``: a local Zerobus, and names.

    They are ``settings`` (a dict of arguments), ``TABLE``, ``batch``, ``os``, ``pa``, and what the package
    exports.
    """
    serve(world)
    world.preamble = _NAMES.format(table=TABLE, settings=world.settings)


def wrapper(world: World) -> None:
    """As ``settings``, with an open ``wrapper``, and in its quarantine a row that could not be delivered."""
    serve(world, NARROW)
    world.preamble = _NAMES.format(table=TABLE, settings=world.settings) + _UNTIL + _WRAPPER


def emulator(world: World) -> None:
    """As ``settings``, with ``emulator``, which belongs to the block."""
    world.preamble = _NAMES.format(table=TABLE, settings={}) + _EMULATOR


def orphan(world: World) -> None:
    """As ``settings``, with a ``wrapper`` that has delivered the 4200 rows of a process that was killed."""
    emulator = serve(world)
    world.preamble = _NAMES.format(table=TABLE, settings=world.settings)
    # As long as it lives, it has the first log, which the wrapper of the block takes for its own.
    with SyncZerobusWrapper(**world.settings, shutdown_timeout_secs=0):
        emulator.kill()
        killed = world.run_python(_IS_KILLED)
        assert killed.returncode < 0, killed.stderr
    emulator.restart()
    world.preamble += _UNTIL + _ADOPTS


SETUPS: dict[str, Callable[[World], None]] = {
    setup.__name__: setup
    for setup in (
        *(empty, log, half, damaged, owner, quarantine, replay, workspace, file, shells, chaos, environment),
        *(settings, wrapper, emulator, orphan),
    )
}
