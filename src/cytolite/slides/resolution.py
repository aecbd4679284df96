"""A slide's resolution: what its file says, judged; or what the user says."""

from __future__ import annotations

import math
from pathlib import Path

from cytolite.errors import SlideError

MPP_MIN, MPP_MAX = 0.05, 5.0
MAX_ANISOTROPY = 0.10


def stated_mpp(found: tuple[float, float] | None) -> float | None:
    """Return the um per pixel that a file gives, or ``None`` if it gives none that a microscope has."""
    if found is None or not all(MPP_MIN <= value <= MPP_MAX for value in found):  # false for NaN, too
        return None
    return sum(found) / 2 if max(found) / min(found) <= 1 + MAX_ANISOTROPY else None


def resolve_mpp(path: Path, found: tuple[float, float] | None, given: float | None) -> float:
    """Return the um per pixel to believe.

    Parameters
    ----------
    path : pathlib.Path
        Named in errors.
    found : tuple of float, or None
        um per pixel in x and y that the file gives.
    given : float, or None
        What the user gives (``--mpp``); it wins.

    Raises
    ------
    SlideError
        If there is no resolution, or it is outside 0.05 to 5 um/px, or x and y differ by more than 10%.
    """
    allowed = f"{MPP_MIN:g} to {MPP_MAX:g} µm/px"
    if given is not None:
        if not MPP_MIN <= given <= MPP_MAX:
            raise SlideError(f"--mpp {given:g} for {path} is outside of {allowed}, a microscope's range: correct it.")
        return float(given)
    if found is None:
        raise SlideError(
            f"{path} holds no resolution: give its µm per pixel ({allowed}) with --mpp; usual are 0.25 for a scan "
            "at 40x, 0.5 at 20x and 1 at 10x."
        )
    x, y = found
    if not (math.isfinite(x) and math.isfinite(y) and MPP_MIN <= x <= MPP_MAX and MPP_MIN <= y <= MPP_MAX):
        raise SlideError(
            f"{path} says {x:.5g} x {y:.5g} µm/px, outside of {allowed}, a microscope's range: "
            "give the right resolution with --mpp."
        )
    if max(x, y) / min(x, y) > 1 + MAX_ANISOTROPY:
        raise SlideError(
            f"{path} says {x:.5g} x {y:.5g} µm/px, but x and y may differ by 10% at most (within {allowed}): "
            "give the right resolution with --mpp."
        )
    return (x + y) / 2
