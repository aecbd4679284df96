"""A slide, opened as the settings say."""

from __future__ import annotations

from pathlib import Path

from cytolite.config import SegmentSettings
from cytolite.slides.reader import Slide, open_slide


def open_as_set(slide: str | Path, settings: SegmentSettings) -> Slide:
    """Open a slide with what the settings say of how to read it; raises what `open_slide` raises.

    Parameters
    ----------
    slide : str or pathlib.Path
        A slide or an image.
    settings : SegmentSettings
        Its `mpp`, `scene`, `rgb` and `damaged` matter.
    """
    skip = settings.damaged == "skip"
    return open_slide(slide, settings.mpp, scene=settings.scene, rgb=settings.rgb, skip_damaged=skip)
