"""The one font of everything that is drawn: it is part of the package, so that pictures are the same on all machines.

Source Sans 3 under the name that its licence asks of changed versions (`assets/font`, made by `tools/make_font.py`):
Latin with all its accents, Greek, Cyrillic, superscripts, arrows. What it lacks (Chinese, Arabic, ...) is drawn as
question marks, one for each character, so that it is seen that something stands there.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FAMILY = "Cytolite Sans"
REPLACEMENT = "?"
_FILE = Path(__file__).parent / "assets" / "font" / "CytoliteSans-Regular.ttf"


@cache
def font(size: int) -> FreeTypeFont:
    """Return the font for Pillow, `size` in px; draw text with it as `drawable` returns it."""
    from PIL import ImageFont

    # Pillow's own layout is in every build of it, and draws the same everywhere.
    return ImageFont.truetype(_FILE, size, layout_engine=ImageFont.Layout.BASIC)


def drawable(text: str) -> str:
    r"""Return text as it is drawn: accents joined with their letters, what the font lacks replaced.

    >>> drawable("Ko\u0308ln 5 µm²")
    'Köln 5 µm²'
    >>> drawable("切片 1")
    '?? 1'
    """
    joined = unicodedata.normalize("NFC", text)
    return "".join(c if _has_glyph(c) else REPLACEMENT for c in joined if unicodedata.category(c) != "Cf")


@cache
def _has_glyph(character: str) -> bool:
    """Say whether the font can draw a character: it draws nothing of those that it lacks."""
    return character.isprintable() and (character.isspace() or font(32).getmask(character).getbbox() is not None)


def matplotlib_style() -> dict[str, Any]:
    """Make the font known to matplotlib, and return the settings that choose it."""
    from matplotlib import font_manager

    if FAMILY not in font_manager.get_font_names():
        font_manager.fontManager.addfont(_FILE)
    return {"font.family": [FAMILY, "DejaVu Sans"]}
