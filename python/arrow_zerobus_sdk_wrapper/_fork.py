"""What a forked child has to forget. Windows has no forks."""

from __future__ import annotations

import os
from collections.abc import Callable


def after_fork_in_child(forget: Callable[[], None]) -> None:
    """Has this called in each forked child, before its own code runs."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
