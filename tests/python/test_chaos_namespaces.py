"""The network namespaces of the chaos suite lose packets, slow them down, cut them off, and count it.

Goal: a trial can rely on a fault having happened. Method: an echo server outside, a client inside, a real
veth pair. It needs root; where ``CI`` is set, a skip is a failure.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

CHAOS = str(Path(__file__).parents[2] / "chaos-tests")
sys.path.insert(0, CHAOS)

from chaos.faults.namespaces import Namespace, remove_abandoned  # noqa: E402
from chaos.stage import Need  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 20
CLIENT = f"""
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as server:
    for _ in range({ROUNDS}):
        server.sendall(b"x" * 4000)
        left = 4000
        while left:
            left -= len(server.recv(left))
print("all of it")
"""


@pytest.fixture
def network() -> Iterator[Namespace]:
    """A namespace of its own."""
    lacking = [text for need in (Need.ROOT, Need.NETNS, Need.IPTABLES) if (text := need.missing())]
    if lacking and os.environ.get("CI"):
        pytest.fail(f"cannot be tested here, which counts as a failure in CI: {lacking}")
    if lacking:
        pytest.skip("; ".join(lacking))
    with Namespace(7) as made:
        yield made


@pytest.fixture
def echo(network: Namespace) -> Iterator[int]:
    """The port of a server outside that says again whatever it is told."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                connection.sendall(piece)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    listener = socket.create_server((network.outside_address, 0))
    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def start(network: Namespace, echo: int) -> subprocess.Popen[str]:
    """A client inside that wants everything back that it says."""
    client = (sys.executable, "-c", CLIENT, network.outside_address, str(echo))
    return subprocess.Popen([*network.prefix, *client], stdout=subprocess.PIPE, text=True)


def heard(client: subprocess.Popen[str]) -> str:
    said, _ = client.communicate(timeout=60)
    return said.strip()


def test_packets_that_are_lost_or_held_up_are_counted_and_everything_arrives(
    network: Namespace, echo: int
) -> None:
    assert heard(start(network, echo)) == "all of it"
    assert not network.counts
    network.lose_packets(0.2)
    client = start(network, echo)
    # What is lost again and again is sent after ever longer pauses: it need not end while that lasts.
    with contextlib.suppress(subprocess.TimeoutExpired):
        client.wait(timeout=5)
    network.heal()
    assert heard(client) == "all of it"
    assert network.counts["packets_lost"] > 0
    network.limit_rate(1_000_000)
    assert heard(start(network, echo)) == "all of it"
    network.heal()
    assert network.counts["packets_held_up"] > 0


def test_nothing_passes_a_link_that_is_down_and_everything_once_it_is_up(
    network: Namespace, echo: int
) -> None:
    network.take_link_down()
    client = start(network, echo)
    with pytest.raises(subprocess.TimeoutExpired):
        client.communicate(timeout=0.5)
    network.heal()
    assert heard(client) == "all of it"
    assert network.counts["link_down"] == 1


def test_a_namespace_whose_maker_is_gone_is_removed(network: Namespace) -> None:
    assert remove_abandoned() >= 0
    code = "import os; from chaos.faults.namespaces import Namespace; Namespace(8).__enter__(); os._exit(0)"
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": CHAOS}, check=True, timeout=30
    )
    assert remove_abandoned() >= 1
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert network.name in listed.stdout
