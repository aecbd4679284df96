"""The font of all pictures: what people write is drawn, and what cannot be drawn is seen to be missing."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import cytolite
from cytolite.fonts import FAMILY, REPLACEMENT, drawable, font

WRITTEN = "ÄÖÜäöüß éèêëçñ åøæ łśźżŁŚ řšžůť ğışİ őű ţșăâî Ελληνικά Кириллица Їжак ếữợđ µμ²³⁻¹ ½ ±×≤≥≈ → ← ↑ ↓ – — „“”‚‘’ « » … • ° € №"  # noqa: E501


def ink(text: str) -> np.ndarray:
    picture = Image.new("L", (60, 60))
    ImageDraw.Draw(picture).text((10, 10), text, 255, font(30))
    return np.asarray(picture)


def test_what_people_write_is_drawn_as_it_is():
    assert drawable(WRITTEN) == unicodedata.normalize("NFC", WRITTEN)


def test_letters_that_differ_look_different():
    drawn = {c: ink(c).tobytes() for c in set(WRITTEN) - set(" µμ‚;")}
    assert all(any(picture) for picture in drawn.values())
    pictures = [picture for c, picture in drawn.items() if c not in "ОоеасрКиАВЕНТХΕΑλ"]  # alike in two alphabets
    assert len(pictures) - len(set(pictures)) <= 3


@pytest.mark.parametrize("name", ["Köln", "Łódź", "Orléans", "Việt"])
def test_accents_that_stand_alone_are_joined(name):
    """A Mac names files so."""
    assert drawable(unicodedata.normalize("NFD", name)) == name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("切片1", f"{REPLACEMENT * 2}1"),
        ("شريحة", REPLACEMENT * 5),
        ("a\nb", f"a{REPLACEMENT}b"),
        ("a\x00", f"a{REPLACEMENT}"),
        ("zero\u200bwidth\u00ad", "zerowidth"),
        ("", ""),
    ],
)
def test_what_cannot_be_drawn_is_seen_to_be_missing(text, shown):
    assert drawable(text) == shown
    assert ink(REPLACEMENT).any()


def test_charts_have_the_same_font():
    pytest.importorskip("matplotlib")
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.font_manager import findfont

    from cytolite.fonts import matplotlib_style

    with rc_context(matplotlib_style()):
        text = Figure().text(0, 0, "µm²")
    assert findfont(text.get_fontproperties()).endswith("CytoliteSans-Regular.ttf")
    assert FAMILY in text.get_fontfamily()


def test_the_licence_lies_beside_it():
    folder = Path(cytolite.__file__).parent / "assets" / "font"
    assert "SIL OPEN FONT LICENSE" in (folder / "OFL.txt").read_text("utf-8")
    assert (folder / "CytoliteSans-Regular.ttf").stat().st_size < 600_000
