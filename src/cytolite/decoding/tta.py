"""The eight ways to lay an image down, and the way back for what a network says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def turned(xp: Any, maps: Any, turn: int) -> Any:
    """Turn maps by `turn` right angles counterclockwise, and then, if `turn` > 3, mirror them left to right.

    Parameters
    ----------
    xp : module
        numpy or torch, whichever `maps` belong to.
    maps : array
        (B, C, H, W).
    turn : int
        0 to 7; 0 leaves them as they are.
    """
    rotated = xp.rot90(maps, turn % 4, (2, 3))
    return xp.flip(rotated, (3,)) if turn > 3 else rotated


def turned_back(xp: Any, maps: Any, turn: int) -> Any:
    """Undo `turned`."""
    return xp.rot90(xp.flip(maps, (3,)) if turn > 3 else maps, -(turn % 4), (2, 3))


def flows_turned_back(xp: Any, flows: Any, turn: int) -> Any:
    """Undo `turned` for vectors (dy, dx), (B, 2, H, W): they change their place and their direction."""
    placed = turned_back(xp, flows, turn)
    dy, dx = placed[:, 0], placed[:, 1] * (-1 if turn > 3 else 1)
    for _ in range(turn % 4):
        dy, dx = dx, -dy
    return xp.stack([dy, dx], 1)


def mean_over_turns(xp: Any, ask: Callable[[Any, int], tuple[Any, ...]], images: Any, turns: int) -> tuple[Any, ...]:
    """Return the mean of what is answered to images in the first `turns` of the eight ways, turned back.

    Parameters
    ----------
    xp : module
        numpy or torch.
    ask : callable
        Turned images, and which turn it is, to flows (B, 2, h, w) and other maps (B, C, h, w), such as type logits.
    images : array
        (B, 3, H, W).
    turns : int
        1, 4 or 8.
    """
    if turns == 1:
        return ask(images, 0)
    flows, *others = zip(*(ask(turned(xp, images, turn), turn) for turn in range(turns)), strict=True)
    back = [[flows_turned_back(xp, found, turn) for turn, found in enumerate(flows)]]
    back += [[turned_back(xp, found, turn) for turn, found in enumerate(maps)] for maps in others]
    return tuple(xp.stack(maps).mean(0) for maps in back)
