"""What of the constructor's arguments is refused before ``_core`` sees it.

Here are names and Python types; ``_core`` knows the ranges and how settings depend on each other.
Either way it is a ``ConfigurationError`` that names the argument, the value and what is allowed.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
from collections.abc import Callable
from typing import ParamSpec, cast

from ._errors import ConfigurationError

_P = ParamSpec("_P")

INTEGER_MAX = 2**63 - 1
ATTEMPTS_MAX = 2**32 - 1
SECONDS_MAX = 2**32 - 1
PORT_MAX = 2**16 - 1


def refuse_unknown_options(init: Callable[_P, None]) -> Callable[_P, None]:
    """Lets an ``__init__`` answer a wrong set of arguments with a ``ConfigurationError``.

    The signature stays the function's own, for readers, editors and type checkers.
    """
    signature = inspect.signature(init)
    options = [name for name in signature.parameters if name != "self"]

    @functools.wraps(init)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> None:
        for name in kwargs:
            if name not in options:
                raise ConfigurationError(_unknown(name, options))
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ConfigurationError(f"wrong arguments: {error}") from None
        init(*args, **kwargs)

    return checked


def _unknown(name: str, options: list[str]) -> str:
    close = difflib.get_close_matches(name, options, n=1)
    if close:
        return f"{name} is not an option, did you mean {close[0]}?"
    return f"{name} is not an option, allowed are: {', '.join(options)}"


def _refuse(name: str, value: object, allowed: str) -> ConfigurationError:
    return wrong(name, f"{name} is {value!r}, allowed is: {allowed}")


def wrong(name: str, message: str) -> ConfigurationError:
    """The error about an argument."""
    error = ConfigurationError(message)
    error.setting = name
    return error


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def text(name: str, value: object) -> str:
    """A string. The text of a wrong value is not repeated: it may be a secret of another type."""
    if isinstance(value, str) and not _is_unicode(value):
        raise wrong(name, f"{name} has a lone surrogate, allowed is: text that is valid Unicode")
    if not isinstance(value, str):
        raise wrong(name, f"{name} is a {type(value).__name__}, allowed is: a string")
    return value


def optional_text(name: str, value: object) -> str | None:
    """A string or None."""
    return None if value is None else text(name, value)


def integer(name: str, value: object, maximum: int = INTEGER_MAX) -> int:
    """An integer from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        raise _refuse(name, value, f"an integer from 0 to {maximum}")
    return value


def optional_integer(name: str, value: object, maximum: int = INTEGER_MAX) -> int | None:
    """An integer from 0 on, or None."""
    return None if value is None else integer(name, value, maximum)


def boolean(name: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise _refuse(name, value, "True or False")
    return value


def seconds(name: str, value: object) -> float:
    """A number of seconds from 0 on."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= SECONDS_MAX:
        raise _refuse(name, value, f"a number of seconds from 0 to {SECONDS_MAX}")
    return float(value)


def optional_seconds(name: str, value: object) -> float | None:
    """A number of seconds from 0 on, or None."""
    return None if value is None else seconds(name, value)


def choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in allowed:
        raise _refuse(name, value, ", ".join(repr(word) for word in allowed))
    return value


def optional_choice(name: str, value: object, allowed: tuple[str, ...]) -> str | None:
    """One of a few words, or None."""
    return None if value is None else choice(name, value, allowed)


def optional_path(name: str, value: object) -> str | None:
    """A path as a string, or None."""
    if value is None:
        return None
    path: object = value
    if isinstance(value, os.PathLike):
        path = os.fspath(cast("os.PathLike[str]", value))
    if not isinstance(path, str):
        raise _refuse(name, path, "a string or a path")
    return text(name, path)
