"""What a compiled Java class calls and offers, read from its file (Java Virtual Machine Specification, chapter 4)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

_PLAIN = {
    "B": "byte",
    "C": "char",
    "D": "double",
    "F": "float",
    "I": "int",
    "J": "long",
    "S": "short",
    "Z": "boolean",
    "V": "void",
}
_SIZES = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}
PUBLIC, INTERFACE, SYNTHETIC = 0x0001, 0x0200, 0x1000


@dataclass
class ClassFile:
    """A class: its name, whether it is an interface, its public methods, and what it calls of others.

    A method is ``class.name(argument,...) result``, with types by their last names; ``calls`` also says, by an ``I``
    before it, whether the class of the method was taken to be an interface.
    """

    name: str
    is_interface: bool
    methods: set[str] = field(default_factory=set)
    calls: set[tuple[str, str]] = field(default_factory=set)


def read_class(data: bytes) -> ClassFile:
    """Read a class file."""
    pool, at = _constants(data)
    flags, this, _ = struct.unpack_from(">HHH", data, at)
    name = _text(pool, this)
    (n,) = struct.unpack_from(">H", data, at + 6)
    at = _skip_members(data, at + 8 + 2 * n, lambda *_: None, pool)
    found = ClassFile(name, bool(flags & INTERFACE))

    def take(access: int, method: str, descriptor: str) -> None:
        if access & PUBLIC and not access & SYNTHETIC:
            found.methods.add(f"{name}.{method}{_signature(descriptor)}")

    _skip_members(data, at, take, pool)
    for tag, value in pool.values():
        if tag in (10, 11):
            owner, pair = struct.unpack(">HH", value)
            name_at, descriptor_at = struct.unpack(">HH", pool[pair][1])
            method = pool[name_at][1].decode() + _signature(pool[descriptor_at][1].decode())
            found.calls.add(("I" if tag == 11 else "", f"{_text(pool, owner)}.{method}"))
    return found


def _constants(data: bytes) -> tuple[dict[int, tuple[int, bytes]], int]:
    (n,) = struct.unpack_from(">H", data, 8)
    pool, at, i = {}, 10, 1
    while i < n:
        tag = data[at]
        size = 2 + struct.unpack_from(">H", data, at + 1)[0] if tag == 1 else _SIZES[tag]
        pool[i] = (tag, data[at + 3 : at + 1 + size] if tag == 1 else data[at + 1 : at + 1 + size])
        at += 1 + size
        i += 2 if tag in (5, 6) else 1
    return pool, at


def _text(pool: dict[int, tuple[int, bytes]], at: int) -> str:
    return pool[struct.unpack(">H", pool[at][1])[0]][1].decode().replace("/", ".")


def _skip_members(data, at, take, pool):  # type: ignore[no-untyped-def]
    (n,) = struct.unpack_from(">H", data, at)
    at += 2
    for _ in range(n):
        access, name, descriptor, attributes = struct.unpack_from(">HHHH", data, at)
        take(access, pool[name][1].decode(), pool[descriptor][1].decode())
        at += 8
        for _ in range(attributes):
            at += 6 + struct.unpack_from(">I", data, at + 2)[0]
    return at


def _signature(descriptor: str) -> str:
    arguments, result = descriptor[1:].split(")")
    types = [_type(part) for part in re.findall(r"\[*(?:L[^;]+;|[BCDFIJSZV])", arguments)]
    return f"({','.join(types)}) {_type(result)}"


def _type(descriptor: str) -> str:
    depth = len(descriptor) - len(descriptor.lstrip("["))
    plain = descriptor[depth:]
    name = _PLAIN.get(plain) or re.split(r"[/$]", plain[1:-1])[-1]
    return name + "[]" * depth
