"""What a network loses, holds up or cuts below TCP costs no row and holds up no sender.

Method: the victim lives in a network namespace whose only link leads to two proxies that pass everything
on. The link loses a fifth of all packets, is slow, and is down for longer than TCP waits at first; then
the victim is killed with the link down and the next one goes on. The counters of iptables and tc say
whether packets were hit.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ..faults.namespaces import Namespace, remove_abandoned
from ..stage import Need, Stage
from ..way import Way, steady

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..trial import Trial
    from ..victims.victim import Victim

_LOSS = 0.2
_BITS_PER_SECOND = 200_000
_HELD_SECS = 1.0


def run(trial: Trial) -> None:
    """The faults in an order that is drawn, and a kill in the middle of the last one."""
    remove_abandoned()
    service = trial.service()
    with (
        Namespace(trial.index) as network,
        Way(service, trial.random.randrange(2**32), network.outside_address) as way,
    ):

        def start() -> Victim:
            # More than the slow link carries.
            options = replace(steady(trial), rows=(20, 100), pause_ms=5)
            return trial.victim(options, connection=way.connection, prefix=network.prefix)

        victim = start()
        way.wait_for_commit("through the namespace", victim)
        faults: list[Callable[[], None]] = [
            lambda: network.lose_packets(_LOSS),
            lambda: network.limit_rate(_BITS_PER_SECOND),
            network.take_link_down,
        ]
        trial.random.shuffle(faults)
        for fault in faults:
            fault()
            # How long a fault of the network lasts is what is tried here.
            time.sleep(_HELD_SECS)
            way.wait_for_acknowledgements(5, "while the network fails", victim)
            network.heal()
            way.wait_for_commit("after the network has healed", victim)
        network.take_link_down()
        way.wait_for_acknowledgements(5, "while the link is down", victim)
        trial.kill(victim)
        network.heal()
        victim = start()
        way.wait_for_commit("of the next victim", victim)
        trial.kill(victim)
        trial.count("faults", len(faults) + 1)
        for name in ("packets_lost", "packets_held_up", "link_down"):
            if not network.counts[name]:
                raise AssertionError(f"nothing was shown: {name} is 0; {dict(network.counts)}")
            trial.count(name.replace("_", " "), network.counts[name])
    trial.finish()


STAGES = (
    Stage(
        name="namespaces",
        rows=(16,),
        fault="packets are lost (20 %), a link is slow (200 kbit/s), a link is down",
        promise="nothing stored is lost, senders are not held up, delivery goes on afterwards",
        proof="the victim in a network namespace of its own, iptables, tc tbf, and a veth pair that is "
        "taken down",
        needs=frozenset({Need.ROOT, Need.NETNS, Need.IPTABLES}),
        trials=1,
        run=run,
        unit="faults",
    ),
)
