"""A scanner for GeoJSON features: numbers go to arrays at once, the rest is left to a JSON parser.

Nearly all of a file of cells are coordinates and measurements. As Python objects they would cost a hundred bytes a
number and most of the time; here each array called ``coordinates``, and each object called ``measurements`` with the
expected names, is replaced by its number in the order of the text, so that what is left is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cytolite.kernels import kernel

NEED_MORE, ENDED, WRONG = 0, 1, 2


@dataclass(frozen=True)
class Scanned:
    """What was found in one block of text.

    Attributes
    ----------
    text : bytes
        The features, comma-separated, ``coordinates`` replaced by whole numbers v, ``measurements`` by row numbers.
    points : numpy.ndarray
        float64 (P, 2), (x, y) of all positions; further numbers of a position are left out.
    ring_ends : numpy.ndarray
        int64 (R,); ring r is ``points[ring_ends[r - 1]:ring_ends[r]]``, closed as in the file.
    ring_values, ring_polygons : numpy.ndarray
        int64 (R,); which v a ring belongs to, and which polygon in it.
    n_values : int
        Number of arrays that were replaced.
    measured : numpy.ndarray
        float64 (rows, names); NaN for null, "NaN" and bare NaN.
    used : int
        Bytes of the block that were taken.
    state : int
        `NEED_MORE`, `ENDED` after the bracket that closes the features, or `WRONG` at something else.
    """

    text: bytes
    points: NDArray[np.float64]
    ring_ends: NDArray[np.int64]
    ring_values: NDArray[np.int64]
    ring_polygons: NDArray[np.int64]
    n_values: int
    measured: NDArray[np.float64]
    used: int
    state: int


def scan_features(block: NDArray[np.uint8], first: bool, names: Sequence[bytes] = ()) -> Scanned:
    """Read the whole features at the start of a block of text.

    Parameters
    ----------
    block : numpy.ndarray
        uint8 (N,), from within an array of features.
    first : bool
        Whether no feature of the array came before.
    names : sequence of bytes
        Measurements to expect, quoted as in the text. Objects that have other names, or these in another order, stay.
    """
    keys = np.frombuffer(b"".join(names), np.uint8)
    key_starts = np.cumsum([0, *map(len, names)])
    found = _Found(
        np.empty(2 * len(block) + 64, np.uint8),
        np.empty((len(block) // 5 + 1, 2)),
        np.empty((len(block) // 7 + 1, 3), np.int64),
        np.empty((len(block) // (len(keys) + 2 * len(names) + 2) + 1, len(names))),
    )
    counts, used, state = _scan(block, first, keys, key_starts, found)
    n_text, n_points, n_rings, n_values, n_measured = counts
    ends, values, polygons = np.ascontiguousarray(found.rings[:n_rings].T)
    text, points, measured = found.text[:n_text].tobytes(), found.points[:n_points], found.measured[:n_measured]
    return Scanned(text, points, ends, values, polygons, n_values, measured, used, state)


class _Found(NamedTuple):
    """Where results are written to."""

    text: NDArray[np.uint8]
    points: NDArray[np.float64]
    rings: NDArray[np.int64]  # end, value, polygon
    measured: NDArray[np.float64]


def find_features(block: NDArray[np.uint8]) -> int:
    """Return where the features of a collection begin: the position after the bracket that opens them.

    -1 if the text ends before, -2 if the first object ends without any.
    """
    return int(_find(block))


_COORDINATES = np.frombuffer(b'"coordinates"', np.uint8)
_MEASUREMENTS = np.frombuffer(b'"measurements"', np.uint8)
_NULL = np.frombuffer(b"null", np.uint8)
_NAN = np.frombuffer(b'"NaN"', np.uint8)
_BARE_NAN = np.frombuffer(b"NaN", np.uint8)
_FEATURES = np.frombuffer(b'"features"', np.uint8)
_QUOTE, _BACKSLASH, _COMMA, _COLON = 34, 92, 44, 58
_OPEN, _CLOSE, _OPEN_ARRAY, _CLOSE_ARRAY = 123, 125, 91, 93


@kernel
def _skip_space(data, at):  # type: ignore[no-untyped-def]
    while at < len(data) and (data[at] == 32 or 9 <= data[at] <= 13):
        at += 1
    return at


@kernel
def _skip_string(data, at):  # type: ignore[no-untyped-def]
    """Return the position after the string that begins at `at`; past the end where it is cut off."""
    at += 1
    while at < len(data) and data[at] != _QUOTE:
        at += 2 if data[at] == _BACKSLASH else 1
    return at + 1


@kernel
def _stands_at(data, at, piece):  # type: ignore[no-untyped-def]
    if at + len(piece) > len(data):
        return False
    for i in range(len(piece)):  # noqa: SIM110 - compiled
        if data[at + i] != piece[i]:
            return False
    return True


@kernel
def _is_key(data, start, end, key, opening):  # type: ignore[no-untyped-def]
    """Return where the array or object begins that the key at start:end names; -1 if it is another key or value."""
    if end - start != len(key) or not _stands_at(data, start, key):
        return -1
    at = _skip_space(data, end)
    if at >= len(data) or data[at] != _COLON:
        return -1
    at = _skip_space(data, at + 1)
    return at if at < len(data) and data[at] == opening else -1


@kernel
def _find(data):  # type: ignore[no-untyped-def]
    depth = 0
    at = 0
    while at < len(data):
        byte = data[at]
        if byte == _QUOTE:
            end = _skip_string(data, at)
            if depth == 1 and end <= len(data):
                found = _is_key(data, at, end, _FEATURES, _OPEN_ARRAY)
                if found >= 0:
                    return found + 1
            at = end
            continue
        if byte in (_OPEN, _OPEN_ARRAY):
            depth += 1
        elif byte in (_CLOSE, _CLOSE_ARRAY):
            depth -= 1
            if depth == 0:
                return -2
        at += 1
    return -1


@kernel
def _scan(data, first, keys, key_starts, found):  # type: ignore[no-untyped-def]
    """Return the counts (text, points, rings, values, measured), used, state: all of whole features."""
    counts, used = (0, 0, 0, 0, 0), 0
    while True:
        at = _skip_space(data, used)
        if at < len(data) and data[at] == _CLOSE_ARRAY:
            return counts, at + 1, ENDED
        if not first:
            if at < len(data) and data[at] != _COMMA:
                return counts, at, WRONG
            at = _skip_space(data, at + 1)
        if at >= len(data):
            return counts, used, NEED_MORE
        if data[at] != _OPEN:
            return counts, at, WRONG
        after, at = _feature(data, at, keys, key_starts, found, counts)
        if at > len(data):
            return counts, used, NEED_MORE
        counts, used, first = after, at, False


@kernel
def _feature(data, at, keys, key_starts, found, counts):  # type: ignore[no-untyped-def]  # noqa: PLR0912, PLR0917
    """Take one feature; return the counts and the position after it, which is past the end where it is cut off."""
    text = found.text
    n_text, n_points, n_rings, n_values, n_measured = counts
    if n_text > 0:
        text[n_text] = _COMMA
        n_text += 1
    depth = 0
    while at < len(data):
        byte = data[at]
        if byte != _QUOTE:
            text[n_text] = byte
            n_text += 1
            at += 1
            if byte in (_OPEN, _OPEN_ARRAY):
                depth += 1
            elif byte in (_CLOSE, _CLOSE_ARRAY):
                depth -= 1
                if depth == 0:
                    return (n_text, n_points, n_rings, n_values, n_measured), at
            continue
        end = _skip_string(data, at)
        if end > len(data):
            break
        after = -1
        number = n_values
        start = _is_key(data, at, end, _COORDINATES, _OPEN_ARRAY)
        if start >= 0:
            p, r, after = _numbers(data, start, found.points, n_points, found.rings, n_rings, n_values)
            if 0 <= after <= len(data):
                n_points, n_rings, n_values = p, r, n_values + 1
        elif len(key_starts) > 1:
            start = _is_key(data, at, end, _MEASUREMENTS, _OPEN)
            if start >= 0:
                number = n_measured
                after = _measurements(data, start, keys, key_starts, found.measured[n_measured])
                n_measured += 0 <= after <= len(data)
        if after > len(data):
            break
        stop = start if after >= 0 else end  # the key too; what is not as expected stays as it is
        for i in range(at, stop):
            text[n_text] = data[i]
            n_text += 1
        at = stop
        if after >= 0:
            n_text = _put_number(text, n_text, number)
            at = after
    return counts, len(data) + 1


@kernel
def _measurements(data, at, keys, key_starts, row):  # type: ignore[no-untyped-def]  # noqa: PLR0911
    """Take an object that has just the expected keys; return the position after it.

    The position is -1 if it is another object, and past the end if it is cut off.
    """
    cut = len(data) + 1
    for k in range(len(row)):
        at = _skip_space(data, at + 1)  # a brace or a comma was here
        key = keys[key_starts[k] : key_starts[k + 1]]
        if at + len(key) >= len(data):
            return cut
        if not _stands_at(data, at, key):
            return -1
        at = _skip_space(data, at + len(key))
        if at >= len(data):
            return cut
        if data[at] != _COLON:
            return -1
        at = _skip_space(data, at + 1)
        value, end = _number(data, at)
        if end == at:
            value = np.nan
            for piece in (_NULL, _NAN, _BARE_NAN):
                if _stands_at(data, at, piece):
                    end = at + len(piece)
        at = _skip_space(data, end)
        if at + 5 >= len(data):
            return cut
        if data[at] != (_COMMA if k < len(row) - 1 else _CLOSE):
            return -1
        row[k] = value
    return at + 1


@kernel
def _put_number(text, at, number):  # type: ignore[no-untyped-def]
    digits = 1
    while number >= 10**digits:
        digits += 1
    for i in range(digits):
        text[at + digits - 1 - i] = 48 + number % 10
        number //= 10
    return at + digits


@kernel
def _numbers(data, at, points, n_points, rings, n_rings, value):  # type: ignore[no-untyped-def]  # noqa: PLR0912, PLR0917
    """Take a nested array of numbers; return n_points, n_rings and the position after it.

    The position is -1 if something else is in it, and past the end if it is cut off. Arrays of numbers are positions,
    arrays of positions rings, arrays of rings polygons.
    """
    depth, deepest, polygon, count = 0, 0, 0, 0
    ring_start = n_points
    x, y = 0.0, 0.0
    while at < len(data):
        byte = data[at]
        if byte == _OPEN_ARRAY:
            depth += 1
            count = 0
            at += 1
        elif byte == _CLOSE_ARRAY:
            if count >= 2:
                points[n_points, 0], points[n_points, 1] = x, y
                n_points += 1
                deepest = depth
            elif depth == deepest - 1 and n_points > ring_start:
                rings[n_rings, 0], rings[n_rings, 1], rings[n_rings, 2] = n_points, value, polygon
                n_rings += 1
                ring_start = n_points
            elif depth == deepest - 2:
                polygon += 1
            count = 0
            depth -= 1
            at += 1
            if depth == 0:
                return ring_start, n_rings, at  # positions outside of a ring, as a point's, are dropped
        elif byte in (_COMMA, 32) or 9 <= byte <= 13:
            at += 1
        else:
            number, end = _number(data, at)
            if end >= len(data):
                break
            if end == at:
                return n_points, n_rings, -1
            if count == 0:
                x = number
            elif count == 1:
                y = number
            count += 1
            at = end
    return n_points, n_rings, len(data) + 1


@kernel
def _number(data, at):  # type: ignore[no-untyped-def]
    """Return a number and the position after it; the same position if there is none.

    Exact for up to 15 digits, as a parser would read it.
    """
    start = at
    negative = at < len(data) and data[at] == 45
    if negative:
        at += 1
    mantissa, scale, digits, point = np.int64(0), 0, 0, False
    while at < len(data):
        byte = data[at]
        if 48 <= byte <= 57:
            digits += 1
            if mantissa < 10**17:
                mantissa = mantissa * 10 + (byte - 48)
                scale -= 1 if point else 0
            else:
                scale += 0 if point else 1
        elif byte == 46 and not point:
            point = True
        else:
            break
        at += 1
    if digits == 0:
        return 0.0, start
    if at < len(data) and data[at] in (69, 101):  # E, e
        at += 1
        minus = at < len(data) and data[at] == 45
        if at < len(data) and data[at] in (43, 45):
            at += 1
        exponent = 0
        while at < len(data) and 48 <= data[at] <= 57:
            exponent = min(exponent * 10 + data[at] - 48, 400)
            at += 1
        scale += -exponent if minus else exponent
    value = np.float64(mantissa)
    value = value * 10.0**scale if scale > 0 else value / 10.0 ** (-scale)
    return -value if negative else value, at
