"""Names of files, which may be any bytes, as text that can be shown and written, and as names of folders."""

from __future__ import annotations

import hashlib
import os
import unicodedata

# File systems take 255 bytes; the work folders beside a result have longer names than the result.
LONGEST_FOLDER_BYTES = 200


def as_text(name: str | os.PathLike[str]) -> str:
    """Return a name as valid Unicode, whatever its bytes and the locale are; what is no UTF-8 becomes U+FFFD."""
    try:
        return os.fsencode(name).decode("utf-8", "replace")
    except UnicodeEncodeError:  # made up in Python: no system gives such a name
        return os.fspath(name).encode("utf-8", "replace").decode("utf-8")


def one_line(name: str | os.PathLike[str]) -> str:
    """Return a name as text on one line, without characters that steer a terminal."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _steers(c) else c for c in as_text(name))


def folder_name(name: str) -> str:
    """Return `name` such that every file system takes it for a folder; the same wherever it is safe already.

    Neither dots at the start, which are for work in progress, nor dots and spaces at the end, which Windows drops; a
    name that is too long is cut, and told from others that begin like it by a hash. May be empty.
    """
    safe = "".join("_" if _steers(c) or c == "\N{REPLACEMENT CHARACTER}" else c for c in as_text(name))
    safe = safe.lstrip(".").rstrip(". ")
    data = safe.encode()
    if len(data) > LONGEST_FOLDER_BYTES:
        digest = hashlib.sha256(data).hexdigest()[:8]
        safe = f"{data[: LONGEST_FOLDER_BYTES - 9].decode('utf-8', 'ignore')}-{digest}"
    # Back to what the locale makes of these bytes: under an ASCII locale Python cannot name them otherwise.
    return os.fsdecode(safe.encode())


def same_folder(name: str) -> str:
    """Return what is equal for names that some file system takes for one: case and composed letters do not count."""
    return unicodedata.normalize("NFC", as_text(name)).casefold()


def _steers(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Zl", "Zp"}
