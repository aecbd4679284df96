"""PNG and JPEG: decoded once, whole, into memory (3 bytes per pixel; 7 while decoding)."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cytolite.errors import SlideError
from cytolite.slides.jpeg_check import require_whole_jpeg
from cytolite.slides.levels import (
    MAX_WHOLE_PX,
    ArrayLevel,
    Pyramid,
    over_white,
    too_large,
    unsupported,
)

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PNG_BIT_DEPTH_AT = 24
_UM_PER_INCH = 25_400
_WHAT = {
    "1": "black and white pixels",
    "L": "grey pixels",
    "LA": "grey pixels with transparency",
    "CMYK": "CMYK colours",
    "F": "floating-point pixels",
}
_limit_lock = threading.Lock()


def is_plain(head: bytes) -> bool:
    """Whether a file that starts with `head` (at least 8 bytes) is a PNG or JPEG."""
    return head.startswith((_PNG, _JPEG))


def open_plain(path: Path) -> Pyramid:
    """Open a PNG or JPEG as a pyramid of one level; transparent pixels are white, palettes are looked up.

    Raises
    ------
    SlideError
        If the image is damaged, too large to decode at once, or not 8-bit RGB.
    """
    try:
        with _open_any_size(path) as image:
            if image.width * image.height > MAX_WHOLE_PX:
                raise too_large(path, image.width, image.height)
            _check_pixels(path, image)
            kind = str(image.format).lower()
            if kind == "jpeg":
                require_whole_jpeg(path.read_bytes())
            pixels = over_white(np.asarray(_with_alpha(image)))
            dpi = image.info.get("dpi")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise SlideError(f"{path} cannot be read ({error}): the file seems damaged; export it again.") from error
    mpp = (_UM_PER_INCH / dpi[0], _UM_PER_INCH / dpi[1]) if dpi and min(dpi) > 0 else None
    return Pyramid(kind, [ArrayLevel(pixels)], mpp, close=lambda: None)


def _open_any_size(path: Path) -> Image.Image:
    """Open without pillow's own limit, which warns and then refuses in other words; ours follows at once."""
    with _limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_pixels(path: Path, image: Image.Image) -> None:
    # Pillow cuts 16-bit RGB down to 8 bits without a word: ask the file.
    with path.open("rb") as file:
        head = file.read(_PNG_BIT_DEPTH_AT + 1)
    if image.mode.startswith("I") or (head.startswith(_PNG) and head[_PNG_BIT_DEPTH_AT] == 16):
        raise unsupported(path, "16-bit pixels")
    if image.mode not in ("RGB", "RGBA", "P", "PA"):
        raise unsupported(path, _WHAT.get(image.mode, f"{image.mode} pixels"))


def _with_alpha(image: Image.Image) -> Image.Image:
    """Return an image as RGB, or as RGBA where a palette or a transparent colour says so."""
    if image.mode == "PA" or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("RGB") if image.mode == "P" else image
