"""The TCP proxy of the chaos suite does to connections what its modes say, and counts it.

Goal: a trial of the chaos suite can rely on a fault having happened. Method: an echo server on a real socket,
clients on real sockets, each mode once.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "chaos-tests"))

from chaos.faults import proxy as modes
from chaos.faults.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 11
DEADLINE_SECS = 10.0
# Long enough for bytes to come that should not come.
SILENCE_SECS = 0.2


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says again whatever it is told."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                connection.sendall(piece)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxy(echo, SEED) as running:
        yield running


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=DEADLINE_SECS)


def says(client: socket.socket, text: bytes) -> bytes:
    """What comes back for it; all of it, or what came before the end."""
    client.sendall(text)
    heard = b""
    while len(heard) < len(text):
        piece = client.recv(65536)
        if not piece:
            break
        heard += piece
    return heard


def hears_nothing(client: socket.socket) -> bool:
    client.settimeout(SILENCE_SECS)
    try:
        return client.recv(1) == b"never"
    except TimeoutError:
        return True
    finally:
        client.settimeout(DEADLINE_SECS)


def test_what_passes_is_whole_and_counted_as_a_connection(proxy: Proxy) -> None:
    text = bytes(range(256)) * 1000
    with connect(proxy) as client:
        assert says(client, text) == text
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert proxy.counts == {"connections": 1}


def test_latency_and_bandwidth_make_it_late_and_keep_it_whole(proxy: Proxy) -> None:
    for mode, least_secs in ((modes.Latency(0.05, 0.01), 0.1), (modes.Bandwidth(100_000), 0.15)):
        proxy.set(mode)
        began = time.monotonic()
        with connect(proxy) as client:
            assert says(client, b"x" * 10_000) == b"x" * 10_000
        assert time.monotonic() - began >= least_secs
        assert proxy.counts[mode.name] > 0


def test_a_reset_hits_what_is_open_and_what_is_opened(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert says(client, b"hello") == b"hello"
        proxy.set(modes.Reset())
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)
    assert proxy.counts["reset"] == 2
    proxy.heal()
    with connect(proxy) as client:
        assert says(client, b"again") == b"again"


def test_nobody_listens_while_it_refuses_and_the_port_is_the_same_afterwards(proxy: Proxy) -> None:
    port = proxy.port
    proxy.set(modes.Refuse())
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    assert proxy.port == port
    with connect(proxy) as client:
        assert says(client, b"again") == b"again"
    assert proxy.counts["refuse"] == 1


def test_a_blackhole_holds_bytes_up_and_loses_none(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert says(client, b"hello") == b"hello"
        proxy.set(modes.Blackhole())
        client.sendall(b"later")
        assert hears_nothing(client)
        proxy.heal()
        assert client.recv(5) == b"later"
    assert proxy.counts["blackhole"] == 1


@pytest.mark.parametrize("dead", ["to_server", "to_client"])
def test_of_a_half_open_connection_one_direction_is_dead_until_it_is_reset(
    proxy: Proxy, dead: modes.Direction
) -> None:
    with connect(proxy) as client:
        assert says(client, b"hello") == b"hello"
        proxy.set(modes.HalfOpen(dead))
        client.sendall(b"lost")
        assert hears_nothing(client)
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert proxy.counts["half_open"] == 1


def test_answers_are_dropped_on_connections_that_were_open_and_those_are_reset(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert says(client, b"hello") == b"hello"
        proxy.set(modes.DropResponses(reset_after_bytes=8))
        client.sendall(b"four")
        assert hears_nothing(client)
        with connect(proxy) as other:
            assert says(other, b"hello") == b"hello"
        client.sendall(b"more")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert proxy.counts["drop_responses"] == 1


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_one_bit_of_a_connection_is_flipped(proxy: Proxy, direction: modes.Direction) -> None:
    proxy.set(modes.FlipBit(direction, after_bytes=5, within=9))
    with connect(proxy) as client:
        assert says(client, b"hello") == b"hello"
        heard = says(client, b"\0" * 50)
        assert sum(byte.bit_count() for byte in heard) == 1
        assert heard[9:] == b"\0" * 41
        assert says(client, b"\0" * 50) == b"\0" * 50
    assert proxy.counts["flip_bit"] == 1


def test_a_connection_is_cut_once_it_has_carried_so_much(proxy: Proxy) -> None:
    proxy.set(modes.CutAfter(100, 200))
    with connect(proxy) as client:
        assert says(client, b"x" * 99) == b"x" * 99
        with pytest.raises(ConnectionResetError):
            says(client, b"x" * 101)
    assert proxy.counts["cut_after"] == 1


def test_connections_are_clogged_one_by_one_and_all_released(proxy: Proxy) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(proxy)) for _ in range(3)]
        for client in clients:
            assert says(client, b"hello") == b"hello"
        proxy.set(modes.Swizzle(step_seconds=0.01))
        deadline = time.monotonic() + DEADLINE_SECS
        while proxy.counts["swizzle"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for client in clients:
            client.sendall(b"later")
        assert all(hears_nothing(client) for client in clients)
        proxy.heal()
        assert [client.recv(5) for client in clients] == [b"later"] * 3


def test_a_server_that_is_away_is_a_reset_and_another_one_may_take_its_place(proxy: Proxy, echo: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        free = nobody.getsockname()[1]
    proxy.direct(free)
    with pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)
    assert proxy.counts["server_refused"] == 1
    proxy.direct(echo)
    with connect(proxy) as client:
        assert says(client, b"hello") == b"hello"
