"""Fields of a JSON object that came from outside: each is there, of its type and within its range, or reading stops."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

MAX_NAME = 200  # characters


class Unreadable(ValueError):
    """What was read is not what was written; callers turn it into the error of their kind of file."""


class Fields:
    """One JSON object."""

    def __init__(self, found: object, where: str, names: Collection[str]) -> None:
        if not isinstance(found, dict) or set(found) != set(names):
            got = sorted(found) if isinstance(found, dict) else type(found).__name__
            raise Unreadable(f"{where} must have exactly the fields {sorted(names)}, got {got}")
        self._found: dict[str, object] = found
        self._where = where

    @classmethod
    def parsed(cls, text: str | bytes, where: str, names: Collection[str]) -> Fields:
        """Parse an object; a name given twice, NaN and infinities are refused."""
        try:
            found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refused)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"{where} is not JSON: {error}") from error
        return cls(found, where, names)

    def inner(self, name: str, names: Collection[str]) -> Fields:
        return Fields(self._found[name], f"{self._where}.{name}", names)

    def objects(self, name: str, names: Collection[str], length: int | None = None) -> list[Fields]:
        found = self._list(name, length)
        return [Fields(each, f"{self._where}.{name}[{i}]", names) for i, each in enumerate(found)]

    def text(self, name: str) -> str:
        return self._text(self._found[name], name)

    def text_or_none(self, name: str) -> str | None:
        return None if self._found[name] is None else self.text(name)

    def texts(self, name: str, length: int | None = None) -> tuple[str, ...]:
        return tuple(self._text(each, name) for each in self._list(name, length))

    def unique_texts(self, name: str, most: int) -> tuple[str, ...]:
        found = self.texts(name)
        if len(set(found)) != len(found) or len(found) > most:
            raise Unreadable(f"{self._where}.{name} must be at most {most} different names")
        return found

    def count(self, name: str, most: int) -> int:
        return self._count(self._found[name], name, most)

    def counts(self, name: str, most: int) -> list[int]:
        return [self._count(each, name, most) for each in self._list(name, None)]

    def _count(self, found: object, name: str, most: int) -> int:
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= most:
            raise Unreadable(f"{self._where}.{name} must be a whole number from 0 to {most}")
        return found

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float:
        return self._number(self._found[name], name, low, high)

    def numbers(self, name: str, length: int | None, low: float = -math.inf, high: float = math.inf) -> Floats:
        return np.array([self._number(each, name, low, high) for each in self._list(name, length)], dtype=np.float64)

    def number_rows(self, name: str, n_rows: int, length: int) -> list[Floats]:
        """Return n_rows lists of `length` numbers each."""
        rows = self._list(name, n_rows)
        return [Fields({name: row}, self._where, (name,)).numbers(name, length) for row in rows]

    def numbers_or_none(
        self, name: str, length: int | None, low: float = -math.inf, high: float = math.inf
    ) -> Floats | None:
        return None if self._found[name] is None else self.numbers(name, length, low, high)

    def _list(self, name: str, length: int | None) -> list[object]:
        found = self._found[name]
        if not isinstance(found, list) or (length is not None and len(found) != length):
            raise Unreadable(f"{self._where}.{name} must be a list" + (f" of {length}" if length is not None else ""))
        return found

    def _text(self, found: object, name: str) -> str:
        if not isinstance(found, str) or len(found) > MAX_NAME:
            raise Unreadable(f"{self._where}.{name} must be text of at most {MAX_NAME} characters")
        return found

    def _number(self, found: object, name: str, low: float, high: float) -> float:
        if not isinstance(found, int | float) or isinstance(found, bool):
            raise Unreadable(f"{self._where}.{name} must be a number")
        number = _as_float(found)
        if not math.isfinite(number) or not low <= number <= high:
            raise Unreadable(f"{self._where}.{name} must be finite and from {low} to {high}, got {found}")
        return number


def canonical(value: object) -> str:
    """Return JSON that is the same text for the same value on every machine; floats keep every bit."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _refused(constant: str) -> object:
    raise ValueError(f"{constant} is no number")


def _as_float(found: int | float) -> float:
    try:
        return float(found)
    except OverflowError:
        return math.inf
