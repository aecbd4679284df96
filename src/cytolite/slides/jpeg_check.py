"""Whether a JPEG holds all of its picture: decoders fill what is missing with grey, and tell nobody.

The entropy-coded data of a baseline JPEG is walked through, symbol by symbol, without computing pixels, which costs a
third of decoding it. See ITU-T T.81, annexes B (markers) and F (Huffman decoding).
"""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cytolite.kernels import kernel

_SOI, _EOI, _SOS, _DHT, _DRI = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD
_SEQUENTIAL = (0xC0, 0xC1)
_FRAMES = (*_SEQUENTIAL, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_LONGEST_CODE, _SHORT = 16, 9
_WHOLE = 2**_LONGEST_CODE


class EndsEarlyError(ValueError):
    """A JPEG whose data ends, or breaks, before its picture is whole."""


def require_whole_jpeg(data: bytes, tables: bytes | None = None) -> None:
    """Check that a JPEG's data reach to the end of its picture.

    Of progressive and arithmetic JPEG, which slides hardly have, only the end marker is looked for.

    Parameters
    ----------
    data : bytes
        The JPEG, abbreviated or not.
    tables : bytes, optional
        Tables that are kept apart, as TIFF does.

    Raises
    ------
    EndsEarlyError
        If they do not.
    """
    huffman: dict[int, bytes] = {}
    if tables:
        _headers(tables, huffman)
    frame, restart, scan, at = _headers(data, huffman)
    if frame is None or scan is None:
        raise EndsEarlyError("the JPEG has no picture")
    body = np.frombuffer(data, np.uint8)
    if frame[0] not in _SEQUENTIAL or len(scan) != len(frame[3]):
        if b"\xff\xd9" not in data[at:]:
            raise EndsEarlyError("the JPEG ends early")
        return
    units, blocks = _layout(frame)
    order = [n for n, count in enumerate(blocks) for _ in range(count)]
    kinds = []
    for component, selector in scan:
        kinds.append((component, huffman.get(selector >> 4), huffman.get(16 | selector & 15)))
    if [component for component, _, _ in kinds] != [component for component, _, _ in frame[3]] or any(
        table is None for kind in kinds for table in kind[1:]
    ):
        raise EndsEarlyError("the JPEG lacks its tables")
    dc, ac = (_lookups(tuple(kind[n] or b"" for kind in kinds)) for n in (1, 2))
    missing = _walk(body, at, units, restart, np.array(order, np.int64), dc, ac)
    if missing:
        raise EndsEarlyError(f"the JPEG ends early: {missing / units:.0%} of it is missing or broken")


def _headers(
    data: bytes, huffman: dict[int, bytes]
) -> tuple[tuple[int, int, int, list[tuple[int, int, int]]] | None, int, list[tuple[int, int]] | None, int]:
    """Read the markers up to the first scan; return the frame, the restart interval, the scan and where its data begin.

    Tables are added to `huffman`, by class and number.
    """
    frame, restart, at = None, 0, 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise EndsEarlyError("the JPEG's headers are broken")
        marker = data[at + 1]
        if marker in {0xFF, _SOI, 0x01}:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _EOI:
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        body = data[at + 4 : at + 2 + length]
        if len(body) != length - 2:
            raise EndsEarlyError("the JPEG ends within its headers")
        at += 2 + length
        if marker == _DHT:
            _split_tables(body, huffman)
        elif marker == _DRI:
            (restart,) = struct.unpack(">H", body[:2])
        elif marker in _FRAMES:
            height, width, n = struct.unpack_from(">HHB", body, 1)
            parts = [(body[6 + 3 * i], body[7 + 3 * i] >> 4, body[7 + 3 * i] & 15) for i in range(n)]
            frame = (marker, height, width, parts)
        elif marker == _SOS:
            return frame, restart, [(body[1 + 2 * i], body[2 + 2 * i]) for i in range(body[0])], at
    return frame, restart, None, at


def _split_tables(body: bytes, huffman: dict[int, bytes]) -> None:
    at = 0
    while at + 17 <= len(body):
        size = 17 + sum(body[at + 1 : at + 17])
        huffman[body[at]] = body[at + 1 : at + size]
        at += size


def _layout(frame: tuple[int, int, int, list[tuple[int, int, int]]]) -> tuple[int, list[int]]:
    """Return how many units the picture is coded in, and how many blocks of each component a unit has."""
    _, height, width, parts = frame
    if len(parts) == 1:
        return -(-height // 8) * -(-width // 8), [1]
    across, down = (max(part[axis] for part in parts) for axis in (1, 2))
    return -(-height // (8 * down)) * -(-width // (8 * across)), [h * v for _, h, v in parts]


@lru_cache(maxsize=16)
def _lookups(tables: tuple[bytes, ...]) -> NDArray[np.uint16]:
    """Return what `_lookup` does, for each component; most tiles of a slide have the same tables."""
    return np.stack([_lookup(table) for table in tables])


def _lookup(table: bytes) -> NDArray[np.uint16]:
    """Return for every 16 bits the code at their start: its length times 256, plus its symbol; 0 where there is none.

    Behind these stands the same for every 9 bits, of codes that are no longer.
    """
    out = np.zeros(_WHOLE, np.uint16)
    code, at = 0, _LONGEST_CODE
    for length in range(1, _LONGEST_CODE + 1):
        for _ in range(table[length - 1]):
            start = code << (_LONGEST_CODE - length)
            out[start : start + (1 << (_LONGEST_CODE - length))] = length << 8 | table[at]
            code, at = code + 1, at + 1
        code <<= 1
    short = out[:: 1 << (_LONGEST_CODE - _SHORT)]
    return np.concatenate([out, np.where(short >> 8 <= _SHORT, short, 0)])


@kernel
def _walk(data, at, units, restart, order, dc, ac):  # type: ignore[no-untyped-def]  # noqa: PLR0912, PLR0917
    """Return how many units of the picture are missing: those after the data's end, or after what is no code."""
    bits, n_bits = np.uint64(0), 0
    ended = False
    for unit in range(units):
        if restart > 0 and unit > 0 and unit % restart == 0:
            bits, n_bits, ended = np.uint64(0), 0, False
            while at + 1 < len(data) and not (data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7):
                if data[at] == 0xFF and data[at + 1] == 0xD9:
                    return units - unit
                at += 1
            if at + 1 >= len(data):
                return units - unit
            at += 2
        for k in range(len(order)):
            number = 0
            while number < 64:
                while n_bits <= 32 and not ended:
                    if at >= len(data):
                        ended = True
                        break
                    byte = data[at]
                    if byte == 0xFF:
                        follows = data[at + 1] if at + 1 < len(data) else 0xD9
                        if follows == 0xFF:
                            at += 1
                            continue
                        if follows != 0:
                            ended = True
                            break
                        at += 1
                    bits = (bits << np.uint64(8)) | np.uint64(byte)
                    n_bits += 8
                    at += 1
                window = bits << np.uint64(16 - n_bits) if n_bits < 16 else bits >> np.uint64(n_bits - 16)
                window &= np.uint64(0xFFFF)
                table = dc if number == 0 else ac
                # Nearly all codes are short, and their part of the table fits the processor's nearest memory.
                entry = table[order[k], _WHOLE + (window >> np.uint64(_LONGEST_CODE - _SHORT))]
                if entry == 0:
                    entry = table[order[k], window]
                symbol = entry & 255
                used = (entry >> 8) + (symbol & 15)
                if entry == 0 or used > n_bits:
                    return units - unit
                n_bits -= used
                if number == 0:
                    number = 1
                elif symbol & 15 == 0 and symbol != 0xF0:
                    break
                else:
                    number += (symbol >> 4) + 1
    return 0
