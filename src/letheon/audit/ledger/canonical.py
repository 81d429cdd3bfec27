"""Canonical JSON: one sequence of bytes for one value, so that it can be hashed and signed.

Standard: RFC 8785 (JSON Canonicalization Scheme): no white space, keys in the order of their UTF-16 code units, the
shortest escapes, numbers as ECMAScript writes them.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

from letheon.core.errors import LetheonError

# Integers up to here are exact in every JSON reader (IEEE 754 double precision).
LARGEST_INTEGER = (1 << 53) - 1


def canonical(value: Any) -> bytes:
    """The canonical form of a JSON value as UTF-8.

    Raises:
        LetheonError: for what JSON has no one form for: NaN, infinity, integers beyond 2^53 - 1, half a surrogate
            pair, keys that are no text, objects that are not JSON.
    """
    try:
        return _text(value).encode()
    except UnicodeEncodeError as error:
        raise _no_form(f"{error.object[error.start : error.end]!a}, half a surrogate pair,") from None


def parse(text: bytes) -> Any:
    """A JSON value as RFC 8785 sees it: an integer beyond 2^53 - 1 is the double that it stands for.

    Raises:
        ValueError: it is no JSON.
    """
    return json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int | float:
    double = float(digits)
    return double if abs(double) > LARGEST_INTEGER else int(digits)


def _text(value: Any) -> str:
    if value is None or isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise _no_form(f"the integer {value}")
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_text(key)}:{_text(item)}" for key, item in members) + "}"
    raise _no_form(f"a {type(value).__name__}")


def number(value: float) -> str:
    """A double as ECMAScript's Number::toString writes it: the shortest digits that read back as the same number."""
    if not math.isfinite(value):
        raise _no_form(str(value))
    if value == 0:
        return "0"  # also for minus zero
    sign = "-" if value < 0 else ""
    _, found, shift = Decimal(repr(abs(value))).as_tuple()  # repr gives the shortest digits
    digits = "".join(map(str, found)).rstrip("0")
    point = len(found) + int(shift)  # digits before the decimal point
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1:+d}"


def _no_form(what: str) -> LetheonError:
    return LetheonError(f"{what} has no canonical JSON form", "this is a fault of the caller: report it")
