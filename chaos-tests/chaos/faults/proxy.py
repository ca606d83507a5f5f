"""What can go wrong between two sockets? A TCP proxy that does it on demand.

The proxy runs on a thread of the process that made it. One mode holds at a time, for the connections that
are there and for those that come; ``set`` changes it. What a mode did is in ``counts``, under the mode's
name: a trial that relies on a fault looks there whether it happened. Chance follows from the seed.

A mode that loses bytes of a connection ends that connection with a reset when it is over, because a TCP
that has lost bytes never goes on. A mode that only holds bytes up (``Blackhole``, ``Swizzle``) lets them
through then, as a network does whose packets are sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Self

__all__ = [
    "Bandwidth",
    "Blackhole",
    "CutAfter",
    "Direction",
    "DropResponses",
    "FlipBit",
    "HalfOpen",
    "Latency",
    "Mode",
    "Pass",
    "Proxy",
    "Refuse",
    "Reset",
    "Swizzle",
]

Direction = Literal["to_server", "to_client"]
_Result = TypeVar("_Result")

_CHUNK_BYTES = 64 * 1024
_CONNECT_TIMEOUT_SECS = 5.0
_CONTROL_TIMEOUT_SECS = 10.0
# On, and no time to linger: the close of such a socket is a reset.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Pass:
    """Everything goes through."""

    name = "pass"


@dataclass(frozen=True)
class Latency:
    """Each piece comes later.

    Attributes:
        seconds: How much later, at least.
        jitter_seconds: How much on top, by chance. Order is kept, as TCP keeps it.
    """

    seconds: float
    jitter_seconds: float = 0.0
    name = "latency"


@dataclass(frozen=True)
class Bandwidth:
    """Each direction of a connection is slow.

    Attributes:
        bytes_per_second: How slow.
    """

    bytes_per_second: int
    name = "bandwidth"


@dataclass(frozen=True)
class Reset:
    """What is open is reset, and what is opened is reset as soon as it is taken."""

    name = "reset"


@dataclass(frozen=True)
class Refuse:
    """What is open is reset, and nobody listens: the kernel refuses connections."""

    name = "refuse"


@dataclass(frozen=True)
class Blackhole:
    """No byte moves in either direction, and nobody is told."""

    name = "blackhole"


@dataclass(frozen=True)
class HalfOpen:
    """One direction dies without a word: its bytes vanish, the other one goes on.

    Attributes:
        dead: Which one.
    """

    dead: Direction
    name = "half_open"


@dataclass(frozen=True)
class DropResponses:
    """What the server says on connections that are open is lost, and then the connection is reset.

    The server has done what it was asked, and the client never learns it. New connections pass, so that
    the client gets as far as sending again.

    Attributes:
        reset_after_bytes: How much of a connection is dropped before it is reset.
    """

    reset_after_bytes: int = 1
    name = "drop_responses"


@dataclass(frozen=True)
class FlipBit:
    """One bit of each connection is flipped.

    Attributes:
        direction: On the way to whom.
        after_bytes: How many bytes of the connection in that direction are whole before it, at least.
        within: Only among so many first bytes of a piece; 9 are the header of an HTTP/2 frame.
    """

    direction: Direction
    after_bytes: int = 0
    within: int = _CHUNK_BYTES
    name = "flip_bit"


@dataclass(frozen=True)
class CutAfter:
    """Each connection is reset when it has carried so much to the server.

    Attributes:
        least_bytes: How much, at least.
        most_bytes: And at most; drawn for each connection.
    """

    least_bytes: int
    most_bytes: int
    name = "cut_after"


@dataclass(frozen=True)
class Swizzle:
    """Connections are clogged one by one, and released in another order when the mode ends.

    Attributes:
        step_seconds: How long it takes from one to the next.
    """

    step_seconds: float = 0.05
    name = "swizzle"


Mode = (
    Pass
    | Latency
    | Bandwidth
    | Reset
    | Refuse
    | Blackhole
    | HalfOpen
    | DropResponses
    | FlipBit
    | CutAfter
    | Swizzle
)


@dataclass(eq=False)
class _Connection:
    """One client, its server, and what has become of both."""

    client: socket.socket
    server: socket.socket
    flows: asyncio.Event = field(default_factory=asyncio.Event)
    # Bytes are lost: it cannot go on once the mode is over.
    is_broken: bool = False
    is_flipped: bool = False
    to_server_bytes: int = 0
    to_client_bytes: int = 0
    dropped_bytes: int = 0
    cut_at: int | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Proxy:
    """Stands between clients and one TCP port.

    Use it as a context manager; entering starts it, leaving resets all connections and stops it.

    Args:
        server_port: The port of the server.
        seed: What its chance follows from.
        server_address: Where the server is.
        address: What it listens on.
        port: The port that it listens on; 0 takes a free one.

    Attributes:
        counts: How often what happened: ``connections``, ``resets``, and for each mode by its name how many
            connections, or for ``refuse`` how many times, it has struck. ``flips_noticed``: connections
            with a flipped bit that one of their ends has given up.
    """

    def __init__(
        self,
        server_port: int,
        seed: int,
        *,
        server_address: str = "127.0.0.1",
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._server = (server_address, server_port)
        self._address, self._port = address, port
        self._random = random.Random(seed)
        self._mode: Mode = Pass()
        self._struck_before = 0
        self._connections: set[_Connection] = set()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._swizzling: asyncio.Task[None] | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @property
    def port(self) -> int:
        """The port that clients connect to; the same over its whole life."""
        return self._port

    @property
    def mode(self) -> Mode:
        """The mode that holds now."""
        return self._mode

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call(self._stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, mode: Mode) -> None:
        """Ends the mode that holds and begins another one; both have happened when this returns."""
        self._call(lambda: self._change(mode))

    def heal(self) -> None:
        """Everything goes through from now on. Connections that have lost bytes are reset."""
        self.set(Pass())

    def direct(self, server_port: int) -> None:
        """New connections go to this port of the server from now on."""
        self._server = (self._server[0], server_port)

    def cut(self) -> int:
        """Resets what is open, in any mode, and says how many connections that were."""

        async def cut() -> int:
            connections = self._reset_all()
            await self._closed()
            return connections

        return self._call(cut)

    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def _call(self, action: Callable[[], Awaitable[_Result]]) -> _Result:
        async def run() -> _Result:
            return await action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_CONTROL_TIMEOUT_SECS)

    async def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((self._address, self._port))
        listener.listen(128)
        self._port = listener.getsockname()[1]
        self._listener = listener
        self._accepting = asyncio.create_task(self._accept(listener))

    async def _stop_listening(self) -> None:
        if self._accepting is not None and self._listener is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
            self._listener.close()
            self._accepting = self._listener = None

    async def _stop(self) -> None:
        await self._stop_swizzling()
        await self._stop_listening()
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        if opening:
            await asyncio.wait(opening)
        self._reset_all()
        await self._closed()

    async def _change(self, mode: Mode) -> None:
        await self._stop_swizzling()
        self._mode = mode
        self._struck_before = self.counts[DropResponses.name]
        for connection in list(self._connections):
            if connection.is_broken:
                self._reset(connection)
            else:
                self._begin(connection)
        if isinstance(mode, Refuse):
            self.counts[mode.name] += 1
            await self._stop_listening()
            self._reset_all()
        elif self._listener is None:
            await self._listen()
        if isinstance(mode, Reset):
            self.counts[mode.name] += self._reset_all()
        if isinstance(mode, Swizzle):
            self._swizzling = asyncio.create_task(self._swizzle(mode))
        await self._closed()

    def _begin(self, connection: _Connection) -> None:
        """What the mode does to a connection at once."""
        mode = self._mode
        connection.flows.set()
        connection.is_flipped = False
        connection.cut_at = None
        if isinstance(mode, Blackhole):
            connection.flows.clear()
            self.counts[mode.name] += 1
        elif isinstance(mode, CutAfter):
            more = self._random.randint(mode.least_bytes, mode.most_bytes)
            connection.cut_at = connection.to_server_bytes + more
        elif isinstance(mode, HalfOpen | DropResponses):
            connection.dropped_bytes = 0

    async def _swizzle(self, mode: Swizzle) -> None:
        while True:
            waiting = [connection for connection in self._connections if connection.flows.is_set()]
            if waiting:
                self._random.choice(waiting).flows.clear()
                self.counts[mode.name] += 1
            await asyncio.sleep(mode.step_seconds)

    async def _stop_swizzling(self) -> None:
        if self._swizzling is None or not isinstance(self._mode, Swizzle):
            return
        self._swizzling.cancel()
        await asyncio.wait([self._swizzling])
        self._swizzling = None
        clogged = [connection for connection in self._connections if not connection.flows.is_set()]
        self._random.shuffle(clogged)
        for connection in clogged:
            connection.flows.set()
            await asyncio.sleep(self._mode.step_seconds)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listener)
            client.setblocking(False)
            task = asyncio.create_task(self._open(client))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, client: socket.socket) -> None:
        self.counts["connections"] += 1
        server = socket.socket()
        server.setblocking(False)
        if isinstance(self._mode, Reset):
            self.counts[self._mode.name] += 1
            self._reset_sockets(client, server)
            return
        try:
            connecting = self._loop.sock_connect(server, self._server)
            await asyncio.wait_for(connecting, _CONNECT_TIMEOUT_SECS)
        except (OSError, TimeoutError):
            self.counts["server_refused"] += 1
            self._reset_sockets(client, server)
            return
        except asyncio.CancelledError:
            self._reset_sockets(client, server)
            raise
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(client, server)
        self._connections.add(connection)
        # The mode may have become one that takes nobody while the server was reached.
        if isinstance(self._mode, Reset | Refuse):
            self._reset(connection)
            return
        self._begin(connection)
        # Only what was open when the answers began to be dropped is hit; if nothing was, the first that
        # comes.
        has_struck = self.counts[DropResponses.name] > self._struck_before
        connection.dropped_bytes = -1 if isinstance(self._mode, DropResponses) and has_struck else 0
        connection.tasks = [
            asyncio.create_task(self._pump(connection, "to_server")),
            asyncio.create_task(self._pump(connection, "to_client")),
        ]

    async def _pump(self, connection: _Connection, direction: Direction) -> None:
        source, sink = connection.client, connection.server
        if direction == "to_client":
            source, sink = sink, source
        try:
            while True:
                await connection.flows.wait()
                piece = await self._loop.sock_recv(source, self._chunk_bytes())
                # It may have been clogged while nothing came.
                await connection.flows.wait()
                if not piece:
                    self._notice(connection)
                    # Said by one side; the other one may still answer.
                    sink.shutdown(socket.SHUT_WR)
                    break
                passed = await self._treat(connection, direction, piece)
                if passed is None:
                    self._reset(connection)
                    return
                if passed:
                    await self._loop.sock_sendall(sink, passed)
        except OSError:
            self._notice(connection)
            self._reset(connection)
            return
        except asyncio.CancelledError:
            self._reset(connection)
            return
        # Both directions are through.
        others = [task for task in connection.tasks if task is not asyncio.current_task()]
        if all(task.done() for task in others):
            self._forget(connection)

    def _chunk_bytes(self) -> int:
        if isinstance(self._mode, Bandwidth):
            # A twentieth of a second of it, so that it flows.
            return max(1, self._mode.bytes_per_second // 20)
        return _CHUNK_BYTES

    async def _treat(self, connection: _Connection, direction: Direction, piece: bytes) -> bytes | None:
        """What becomes of a piece: it, another one, nothing; or None, and the connection is reset."""
        mode = self._mode
        before = connection.to_server_bytes if direction == "to_server" else connection.to_client_bytes
        if direction == "to_server":
            connection.to_server_bytes += len(piece)
        else:
            connection.to_client_bytes += len(piece)
        if isinstance(mode, Latency):
            self.counts[mode.name] += 1
            await asyncio.sleep(mode.seconds + self._random.random() * mode.jitter_seconds)
        elif isinstance(mode, Bandwidth):
            self.counts[mode.name] += 1
            await asyncio.sleep(len(piece) / mode.bytes_per_second)
        elif isinstance(mode, HalfOpen) and direction == mode.dead:
            self.counts[mode.name] += not connection.is_broken
            connection.is_broken = True
            return b""
        elif isinstance(mode, DropResponses) and direction == "to_client":
            return self._drop(connection, mode, piece)
        elif isinstance(mode, FlipBit) and direction == mode.direction and before >= mode.after_bytes:
            return self._flip(connection, mode, piece)
        elif connection.cut_at is not None and connection.to_server_bytes >= connection.cut_at:
            self.counts[CutAfter.name] += 1
            return None
        return piece

    def _drop(self, connection: _Connection, mode: DropResponses, piece: bytes) -> bytes | None:
        if connection.dropped_bytes < 0:
            return piece
        self.counts[mode.name] += not connection.is_broken
        connection.is_broken = True
        connection.dropped_bytes += len(piece)
        return None if connection.dropped_bytes >= mode.reset_after_bytes else b""

    def _flip(self, connection: _Connection, mode: FlipBit, piece: bytes) -> bytes:
        if connection.is_flipped:
            return piece
        # Whoever reads it may wait for bytes that never come.
        connection.is_flipped = connection.is_broken = True
        self.counts[mode.name] += 1
        flipped = bytearray(piece)
        at = self._random.randrange(min(len(piece), mode.within))
        flipped[at] ^= 1 << self._random.randrange(8)
        return bytes(flipped)

    def _notice(self, connection: _Connection) -> None:
        """One of the ends has ended the connection by itself."""
        if connection.is_flipped and connection in self._connections:
            connection.is_flipped = False
            self.counts["flips_noticed"] += 1

    def _reset_all(self) -> int:
        connections = list(self._connections)
        for connection in connections:
            self._reset(connection)
        return len(connections)

    def _reset(self, connection: _Connection) -> None:
        if connection in self._connections:
            self.counts["resets"] += 1
            self._forget(connection)

    def _forget(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        for task in connection.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        closing = asyncio.create_task(self._close(connection))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, connection: _Connection) -> None:
        # The loop must have let go of a socket before its number can become that of another one.
        if connection.tasks:
            await asyncio.wait(connection.tasks)
        self._reset_sockets(connection.client, connection.server)

    async def _closed(self) -> None:
        closing = [task for task in self._closing if task is not asyncio.current_task()]
        if closing:
            await asyncio.wait(closing)

    @staticmethod
    def _reset_sockets(*ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.close()
