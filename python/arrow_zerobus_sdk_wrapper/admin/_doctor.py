"""Would delivery work, from here and now, and what to do if it would not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack, cast

from .. import _core
from .._settings import WrapperArguments
from ._decode import decode

_NOT_LOOKED_AT = ("observability_enabled", "observability_config")


@dataclass(frozen=True)
class Finding:
    """What was found about one thing.

    Attributes:
        check: What was looked at: ``settings``, ``disk``, ``file_system``, ``sync``, ``dns``, ``tcp``,
            ``tls``, ``clock``, ``token``, ``catalog``, ``stream`` or ``waiting``.
        subject: Of what: a directory, a host, a table.
        verdict: How it is.
        found: What was found.
        advice: What to do about it; None if there is nothing to do.
        code: The ``code`` of the exception that delivery fails with, if it does.
    """

    check: str
    subject: str
    verdict: Literal["ok", "warning", "failed"]
    found: str
    advice: str | None
    code: str | None


@dataclass(frozen=True)
class Examination:
    """Everything that was found.

    Attributes:
        directory: The writer directory, or where it would be made.
        table: The table.
        endpoint: The endpoint.
        verdict: The worst verdict.
        findings: What was found, in the order in which delivery needs it. What cannot be asked because
            something before it has failed is left out.
    """

    directory: Path
    table: str
    endpoint: str
    verdict: Literal["ok", "warning", "failed"]
    findings: list[Finding]


def doctor(
    directory: str | os.PathLike[str] | None = None,
    *,
    offline: bool = False,
    **settings: Unpack[WrapperArguments],
) -> Examination:
    """Looks at everything that delivery needs from here.

    Takes no lock, sends no row, and writes nothing but a file of its own for a moment, to see how fast the
    disk is. It may wait some tens of seconds for each answer of the network. Ctrl-C ends it early, between
    two frames that wait.

    Args:
        directory: The writer directory; by default the first one of the table. Where there is a log, what the
            settings do not say of endpoint, table and workspace is taken from it.
        offline: Leaves out everything that needs the network.
        **settings: Those of ``ZerobusWrapper``. Wrong ones are a finding and no exception.

    Returns:
        What was found.

    Raises:
        TypeError: A setting is of a wrong type, or none.
        ConfigurationError: Neither ``directory`` nor ``wal_dir`` is given, and there is neither
            ``XDG_STATE_HOME`` nor a home.
    """
    given = {
        name: value for name, value in cast(dict[str, Any], settings).items() if name not in _NOT_LOOKED_AT
    }
    path = None if directory is None else os.fspath(directory)
    return decode(Examination, _core.admin_doctor(path, given, offline))
