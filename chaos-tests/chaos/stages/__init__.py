"""Every stage, by its name.

A module of this package that has a tuple ``STAGES`` adds its stages; nothing else is to be done to add one.
"""

from __future__ import annotations

import importlib
import pkgutil

from ..stage import Stage


def collect() -> dict[str, Stage]:
    """All stages, in the order of their modules.

    Raises:
        ValueError: Two stages have one name.
    """
    found: dict[str, Stage] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        for stage in getattr(importlib.import_module(f"{__name__}.{module}"), "STAGES", ()):
            if stage.name in found:
                raise ValueError(f"two stages are called {stage.name}")
            found[stage.name] = stage
    return found
