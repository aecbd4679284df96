"""A job on tiles that kills its worker; a module that worker processes can import, as they cannot a test."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cytolite.segmentation.tile_work import Parcel
from cytolite.slides.tiles import Tile


@dataclass(frozen=True)
class DeadlyJob:
    """Sends the number of each tile, and dies at one of them so many times."""

    folder: Path
    marks: Path
    killer: int = -1
    deaths: int = 99

    def fetch(self, tiles: Sequence[Tile]) -> Parcel:
        for tile in tiles:
            died = len(list(self.marks.iterdir()))
            if tile.index == self.killer and died < self.deaths:
                (self.marks / str(died)).touch()
                time.sleep(0.5)  # as one that takes too much memory
                os._exit(1)
        return Parcel({tile: str(tile.index).encode() for tile in tiles}, [(tile.index, 0, 1, 1) for tile in tiles])
