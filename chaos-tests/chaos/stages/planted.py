"""A bug that is planted is found: the suite can fail.

Method: the power cuts of ``power_cut.py``, with producers that acknowledge a batch before it is synced. The
trial must fail, and name the loss. The other bugs are looked for by ``python -m chaos canaries``, which
takes longer.
"""

from __future__ import annotations

from ..stage import Need, Stage
from ..trial import Trial
from . import power_cut

BUG = "AcknowledgeBeforeSync"
CUTS = 6


def run(trial: Trial) -> None:
    """Makes a trial that must fail."""
    directory = trial.directory / "planted"
    directory.mkdir()
    # Of even trials the service is away, so everything that was acknowledged is in the log only.
    planted = Trial("planted", trial.seed, 2 * trial.index, directory)
    planted.canary = BUG
    try:
        power_cut.run(planted, "ext4", CUTS)
    except AssertionError as error:
        if "R1: " not in str(error):
            raise
        trial.count("planted bugs found")
    else:
        raise AssertionError(f"{BUG} was planted and not found in {CUTS} cuts: {dict(planted.counts)}")
    finally:
        planted.close()


STAGES = (
    Stage(
        name="planted-bug",
        rows=(),
        fault="power cuts under producers that acknowledge before the sync",
        promise="the loss is found",
        proof="the trial fails with the rule that is broken",
        needs=frozenset({Need.ROOT, Need.LOOP, Need.EXT4, Need.RUST_VICTIM}),
        trials=1,
        run=run,
        unit="planted bugs found",
    ),
)
