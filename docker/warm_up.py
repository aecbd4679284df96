"""Segment a drawn image once, so that numba's compiled code is in the image and no first run has to wait for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import cytolite


def main() -> None:
    random = np.random.default_rng(1)
    image = Image.new("RGB", (1024, 1024), (235, 200, 220))
    pen = ImageDraw.Draw(image)
    for x, y in random.uniform(20, 1000, (500, 2)):
        pen.ellipse((x - 9, y - 7, x + 9, y + 7), fill=(110, 70, 150), outline=(80, 50, 120))
    noise = random.normal(0, 6, (1024, 1024, 3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.png"
        Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)).save(path)
        cells = cytolite.segment(path, folder, mpp=0.25)
        print(f"warmed up on {len(cells)} nuclei")


if __name__ == "__main__":
    main()
