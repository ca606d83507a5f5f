"""Which settings count here, and whether a wrapper would take them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

from .. import _core
from ._decode import decode
from ._status import _path


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting with the value that counts.

    Attributes:
        name: Its name.
        value: Its value; times in the unit that the name ends in; a secret as asterisks; None for none.
        source: Who gave it: nobody (``"default"``), a ``"file"`` or the ``"environment"``; ``"missing"`` if
            nobody did and no wrapper is made without it.
        origin: The variable, or the file and the line; None for a default.
        default_note: What is done where the default is no value.
    """

    name: str
    value: Any
    source: Literal["default", "file", "environment", "argument", "missing"]
    origin: str | None
    default_note: str | None


def config_show(settings: str | os.PathLike[str] | None = None) -> list[Setting]:
    """Tells every setting, as the environment and perhaps a file give it. Secrets are masked.

    Args:
        settings: A TOML or YAML file; None reads none. The environment counts before it.

    Returns:
        The settings, in the order of ``docs/settings.md``.

    Raises:
        ConfigurationError: The file cannot be read, or something in it or in the environment is no setting,
            or no value of one.
    """
    return decode(list[Setting], _core.admin_config_show(dict(os.environ), _path(settings)))


def config_check(settings: str | os.PathLike[str] | None = None) -> None:
    """Checks what the environment and perhaps a file give, as the constructor of a wrapper would.

    Files that settings name are read. Neither the log nor the network is touched.

    Args:
        settings: A TOML or YAML file; None reads none. The environment counts before it.

    Raises:
        ConfigurationError: A wrapper would refuse them; it names the first setting that is wrong, its value,
            where it was set, and what is allowed.
    """
    _core.admin_config_check(dict(os.environ), _path(settings))
