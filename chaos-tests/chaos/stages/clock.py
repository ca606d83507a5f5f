"""No jump of the clock changes numbers, order, retries, tokens or what waits.

Method: the victim lives by a clock of its own (``faults/preload.py``) that jumps while it sends: a day
ahead and back, to 1970, behind 2038, and stands still. Streams are replaced each second, tokens are good
for a second, delivered segments are retained by age, and the service is killed once in each time, so
everything that goes by time goes on under each clock. A victim that is killed is followed by one under
the same clock. The oracle compares numbers and order over all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faults.preload import Clock
from ..stage import Need, Stage
from ..verdict import Expectations
from ..way import Way, either, steady

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..trial import Trial
    from ..victims.victim import Victim

_DAY_SECS = 86_400
_1970 = 1.0
_BEHIND_2038 = 2.0**31 + 100


def run(trial: Trial) -> None:
    """All jumps in an order that is drawn, half of them with a restart."""
    service = trial.service(token_lifetime_secs=1)
    way = Way(service, 0)
    clock = Clock(trial.directory / "clock")

    def start() -> Victim:
        retained_secs = trial.random.choice([0, 1, 3600])
        options = steady(trial, ordered=True, stream_max_age_secs=1, retain_delivered_secs=retained_secs)
        return trial.victim(options, kind=either(trial), environment=clock.environment())

    victim = start()
    way.wait_for_commit("at first", victim)
    jumps: list[tuple[str, Callable[[], None]]] = [
        ("a day ahead", lambda: clock.shift(_DAY_SECS)),
        ("a day behind", lambda: clock.shift(-_DAY_SECS)),
        ("in 1970", lambda: clock.jump_to(_1970)),
        ("behind 2038", lambda: clock.jump_to(_BEHIND_2038)),
        ("frozen", clock.freeze),
        ("right", clock.heal),
    ]
    trial.random.shuffle(jumps)
    for name, jump in jumps:
        asked = clock.asked
        jump()
        way.wait_for_acknowledgements(10, f"with the clock {name}", victim)
        if clock.asked == asked:
            raise AssertionError(f"nothing was shown: nobody has asked the clock that is {name}")
        if trial.random.random() < 0.5:
            trial.kill(victim)
            victim = start()
            way.wait_for_acknowledgements(3, f"opened with the clock {name}", victim)
        service.kill_and_restart()
        trial.count("services killed")
        way.wait_for_commit(f"with the clock {name}", victim)
        trial.count("jumps of the clock")
    trial.kill(victim)
    trial.finish(expect=Expectations(ordered=True))


STAGES = (
    Stage(
        name="clock",
        rows=(14,),
        fault="the clock jumps a day ahead, a day back, to 1970, behind 2038, and stands still, while the "
        "process runs and over restarts",
        promise="numbers, order, retries, tokens and what waits are as ever",
        proof="a preloaded library that answers for the time of day and counts how often it is asked; "
        "numbers and order compared",
        needs=frozenset({Need.CC, Need.RUST_VICTIM}),
        trials=1,
        run=run,
        unit="jumps of the clock",
    ),
)
