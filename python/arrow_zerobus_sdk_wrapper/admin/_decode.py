"""From the JSON of the core to dataclasses."""

from __future__ import annotations

import dataclasses
import json
import types
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_Wanted = TypeVar("_Wanted")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def decode(wanted: type[_Wanted], text: str) -> _Wanted:
    """Makes a value of a type out of JSON.

    Args:
        wanted: A dataclass; ``list``, ``dict`` or ``tuple`` of something; ``Path``; ``datetime``, whose JSON
            is microseconds since 1970 in UTC; a type of JSON; or one of these or None.
        text: The JSON. Members of an object that the dataclass does not have are left out.

    Returns:
        The value.

    Raises:
        TypeError: The JSON is not of this type; a bug of ours.
    """
    return cast(_Wanted, _convert(wanted, json.loads(text)))


@cache
def _hints(wanted: type) -> dict[str, Any]:
    return get_type_hints(wanted)


def _convert(wanted: Any, value: Any) -> Any:
    """Makes one value of what JSON has for it."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (wanted,) = (argument for argument in arguments if argument is not type(None))
        return _convert(wanted, value)
    if origin is Literal:
        _expect(value in arguments, wanted, value)
        return value
    if origin is list:
        _expect(isinstance(value, list), wanted, value)
        return [_convert(arguments[0], item) for item in value]
    if origin is tuple:
        _expect(isinstance(value, list), wanted, value)
        _expect(len(value) == len(arguments), wanted, value)
        return tuple(_convert(argument, item) for argument, item in zip(arguments, value, strict=True))
    if origin is dict:
        _expect(isinstance(value, dict), wanted, value)
        return {key: _convert(arguments[1], item) for key, item in value.items()}
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        _expect(isinstance(value, dict), wanted, value)
        hints = _hints(wanted)
        names = [field.name for field in dataclasses.fields(wanted) if field.name in value]
        return wanted(**{name: _convert(hints[name], value[name]) for name in names})
    if wanted is Any:
        return value
    if wanted is Path:
        return Path(value)
    if wanted is datetime:
        return _EPOCH + timedelta(microseconds=value)
    if wanted is float:
        _expect(isinstance(value, int | float) and not isinstance(value, bool), wanted, value)
        return float(value)
    _expect(type(value) is wanted, wanted, value)
    return value


def _expect(true: bool, wanted: Any, value: Any) -> None:
    if not true:
        msg = f"the core said {value!r} where {wanted} was expected"
        raise TypeError(msg)
