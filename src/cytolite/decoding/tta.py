"""Test-time augmentation: the eight orientations of an image, and the way back for the maps that a network makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def oriented(xp: Any, maps: Any, way: int) -> Any:
    """Rotate maps by `way` right angles counterclockwise, and then, if `way` > 3, mirror them left to right.

    Parameters
    ----------
    xp : module
        numpy or torch, whichever `maps` belong to.
    maps : array
        (B, C, H, W).
    way : int
        0 to 7; 0 leaves them as they are.
    """
    rotated = xp.rot90(maps, way % 4, (2, 3))
    return xp.flip(rotated, (3,)) if way > 3 else rotated


def upright(xp: Any, maps: Any, way: int) -> Any:
    """Undo `oriented`.

    Parameters
    ----------
    xp : Any
        numpy or torch.
    maps : Any
        (B, C, H, W), of an image in this orientation.
    way : int
        0 to 7.
    """
    return xp.rot90(xp.flip(maps, (3,)) if way > 3 else maps, -(way % 4), (2, 3))


def flows_upright(xp: Any, flows: Any, way: int) -> Any:
    """Undo `oriented` for vectors (dy, dx), (B, 2, H, W): they change their place and their direction.

    Parameters
    ----------
    xp : Any
        numpy or torch.
    flows : Any
        (B, 2, H, W), of an image in this orientation.
    way : int
        0 to 7.
    """
    placed = upright(xp, flows, way)
    dy, dx = placed[:, 0], placed[:, 1] * (-1 if way > 3 else 1)
    for _ in range(way % 4):
        dy, dx = dx, -dy
    return xp.stack([dy, dx], 1)


def mean_over_orientations(
    xp: Any, predict: Callable[[Any, int], tuple[Any, ...]], images: Any, n: int
) -> tuple[Any, ...]:
    """Return the mean of the maps of images in the first `n` of the eight orientations, all laid upright.

    Parameters
    ----------
    xp : module
        numpy or torch.
    predict : callable
        Oriented images, and which orientation it is, to flows (B, 2, h, w) and others (B, C, h, w).
    images : array
        (B, 3, H, W).
    n : int
        1, 4 or 8.
    """
    if n == 1:
        return predict(images, 0)
    flows, *others = zip(*(predict(oriented(xp, images, way), way) for way in range(n)), strict=True)
    laid = [[flows_upright(xp, found, way) for way, found in enumerate(flows)]]
    laid += [[upright(xp, found, way) for way, found in enumerate(maps)] for maps in others]
    return tuple(xp.stack(maps).mean(0) for maps in laid)
