"""What can go wrong below TCP? A network namespace whose only link loses packets, is slow, or is down.

The victim runs inside, everything else outside; they meet at the two ends of a veth pair. It needs root
and the tools ``ip``, ``tc`` and ``iptables``. What a fault did is in ``counts``: packets that were
dropped at random, packets that the slow link held up, and how often the link was down.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["MISSING_TOOLS", "Namespace", "NamespaceError", "remove_abandoned"]

_PREFIX = "chaos"
_TOOL_TIMEOUT_SECS = 20.0
# Each namespace has a network of four addresses of its own here.
_NETWORK = "10.213"
_NETWORKS = 256 * 64
# What leaves and what arrives; both are dropped by the namespace, so the machine outside has no rule of ours.
_CHAINS = ("INPUT", "OUTPUT")
MISSING_TOOLS = "install iproute2 and iptables (apt-get install iproute2 iptables)"


class NamespaceError(Exception):
    """A tool refused; the text says which, and what it said."""


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TOOL_TIMEOUT_SECS)
    if done.returncode != 0:
        raise NamespaceError(f"{' '.join(command)}: {done.stderr.strip()}; {MISSING_TOOLS}, and be root")
    return done.stdout


def remove_abandoned() -> int:
    """Removes the namespaces whose makers are gone, and says how many those were."""
    removed = 0
    for line in _run("ip", "netns", "list").splitlines():
        name = line.split()[0]
        parts = name.split("-")
        if parts[0] == _PREFIX and len(parts) == 3 and not Path("/proc", parts[1]).exists():
            _run("ip", "netns", "delete", name)
            removed += 1
    return removed


class Namespace:
    """A network namespace of its own, linked to this one.

    Use it as a context manager; leaving it removes the namespace with its link. What still runs in it has
    no network then.

    Args:
        number: Tells it from the others of this process; two with one number cannot be there at a time.

    Attributes:
        counts: ``link_down``, and, as far as it has healed, ``packets_lost`` and ``packets_held_up``.
    """

    def __init__(self, number: int) -> None:
        self.counts: Counter[str] = Counter()
        self.name = f"{_PREFIX}-{os.getpid()}-{number}"
        # Names of links have at most 15 characters.
        identity = f"{os.getpid() % 10**6}n{number % 100}"
        self._outside, self._inside = f"co{identity}", f"ci{identity}"
        network = (os.getpid() * 64 + number) % _NETWORKS
        base = f"{_NETWORK}.{network // 64}"
        first = network % 64 * 4
        self._outside_address, self._inside_address = f"{base}.{first + 1}", f"{base}.{first + 2}"

    @property
    def outside_address(self) -> str:
        """Where those inside reach this side; a server must listen on it."""
        return self._outside_address

    @property
    def prefix(self) -> list[str]:
        """What stands before a command that is to run inside."""
        return ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Self:
        _run("ip", "netns", "add", self.name)
        try:
            ends = ("type", "veth", "peer", "name", self._inside, "netns", self.name)
            _run("ip", "link", "add", self._outside, *ends)
            _run("ip", "address", "add", f"{self._outside_address}/30", "dev", self._outside)
            _run("ip", "link", "set", self._outside, "up")
            _run("ip", "-n", self.name, "address", "add", f"{self._inside_address}/30", "dev", self._inside)
            _run("ip", "-n", self.name, "link", "set", self._inside, "up")
            _run("ip", "-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        # The other end of the pair goes along with this one.
        with contextlib.suppress(NamespaceError):
            _run("ip", "link", "delete", self._outside)
        _run("ip", "netns", "delete", self.name)

    def take_link_down(self) -> None:
        """Nothing arrives any more in either direction, and nobody is told."""
        _run("ip", "link", "set", self._outside, "down")
        self.counts["link_down"] += 1

    def bring_link_up(self) -> None:
        """The link carries packets again."""
        _run("ip", "link", "set", self._outside, "up")

    def lose_packets(self, probability: float) -> None:
        """Each packet is dropped with this probability, in both directions."""
        for chain in _CHAINS:
            chance = ("-m", "statistic", "--mode", "random", "--probability", str(probability))
            outside = ("!", "-i" if chain == "INPUT" else "-o", "lo")
            _run(*self.prefix, "iptables", "-A", chain, *outside, *chance, "-j", "DROP")

    def limit_rate(self, bits_per_second: int) -> None:
        """What leaves waits until this rate lets it go; what does not fit into the queue is dropped."""
        shape = ("rate", f"{bits_per_second}bit", "burst", "1600", "latency", "200ms")
        _run("tc", "-n", self.name, "qdisc", "add", "dev", self._inside, "root", "tbf", *shape)

    def heal(self) -> None:
        """Lets everything through from now on, and brings ``counts`` up to date."""
        self.bring_link_up()
        for chain in _CHAINS:
            listed = _run(*self.prefix, "iptables", "-L", chain, "-v", "-x", "-n")
            dropped = re.findall(r"^\s*(\d+)\s+\d+\s+DROP", listed, re.MULTILINE)
            self.counts["packets_lost"] += sum(map(int, dropped))
            _run(*self.prefix, "iptables", "-F", chain)
        queues = json.loads(_run("tc", "-n", self.name, "-s", "-j", "qdisc", "show", "dev", self._inside))
        for queue in queues:
            if queue["kind"] == "tbf":
                self.counts["packets_held_up"] += queue["overlimits"]
                _run("tc", "-n", self.name, "qdisc", "delete", "dev", self._inside, "root")
