"""Plain values, as YAML and flags give them, to the types of settings: strictly."""

from __future__ import annotations

import difflib
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml


def alternatives(kind: Any) -> tuple[Any, ...]:  # a type form
    """Returns the members of a union, or the one type."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def convert(value: object, kind: Any) -> object:  # a type form
    """Converts a plain value to the type of a field, strictly.

    Only these are accepted besides the type itself: int for float, text such as `1e-3` (which
    YAML reads as text) for float, text for a path, a list for a tuple, one number or `64x96` for a
    pair.

    Raises:
        ValueError: With the end of a sentence that begins with the setting's name.
    """
    options = alternatives(kind)
    if value is None and type(None) in options:
        return None
    problems: list[str] = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert_one(value, option)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError(problems[0])


def _convert_one(value: object, kind: Any) -> object:  # a type form
    if get_origin(kind) is Literal:
        return _convert_choice(value, get_args(kind))
    if get_origin(kind) is tuple:
        return _convert_tuple(value, get_args(kind))
    if kind is float:
        return _convert_float(value)
    if kind is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    if type(value) is kind:
        return value
    names = {int: "a whole number", bool: "true or false", str: "text", Path: "a path"}
    raise ValueError(f"must be {names[kind]}, got {value!r}")


def _convert_float(value: object) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    raise ValueError(f"must be a number, got {value!r}")


def _convert_choice(value: object, choices: Sequence[object]) -> object:
    if value in choices:
        return value
    near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"must be one of {', '.join(map(str, choices))}, got {value!r}{hint}")


def _convert_tuple(value: object, kinds: tuple[Any, ...]) -> tuple[object, ...]:
    repeated = len(kinds) == 2 and kinds[1] is Ellipsis
    if isinstance(value, str):
        value = [yaml.safe_load(part) for part in value.replace("x", ",").split(",")]
    if not isinstance(value, list | tuple):
        value = [value] if repeated else [value] * len(kinds)
    if not repeated and len(value) != len(kinds):
        raise ValueError(f"must hold {len(kinds)} values, got {list(value)!r}")
    return tuple(
        convert(item, kinds[0] if repeated else kind)
        for item, kind in zip(value, [kinds[0]] * len(value) if repeated else kinds, strict=True)
    )
