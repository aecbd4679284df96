"""Folders as the authors of public datasets publish them, filled with what a test gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytolite.patches import Patch


def pannuke_fold(
    root: Path,
    number: int,
    images: np.ndarray,
    masks: np.ndarray,
    tissues: Sequence[str],
    dtype: type = np.float64,
) -> Path:
    """``Fold 1/images/fold1/{images,types}.npy`` and ``Fold 1/masks/fold1/masks.npy``, as the archives unpack."""
    fold = root / f"Fold {number}"
    for name, array in (("images", images.astype(dtype)), ("masks", masks.astype(dtype))):
        (fold / name / f"fold{number}").mkdir(parents=True)
        np.save(fold / name / f"fold{number}" / f"{name}.npy", array)
    np.save(fold / "images" / f"fold{number}" / "types.npy", np.array(tissues))
    return fold


def channels(types: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """PanNuke's six channels of a type map (1 to 5) and an instance map; ids start at 1 in each, and collide."""
    masks = np.zeros((*types.shape, 6), np.int64)
    for channel in range(5):
        inside = np.where(types == channel + 1, instances, 0)
        masks[..., channel] = np.unique(inside, return_inverse=True)[1].reshape(types.shape)
        if inside.all():
            masks[..., channel] += 1
    masks[..., 5] = ~masks[..., :5].any(-1)
    return masks


def imagescope(layers: dict[str, list[np.ndarray]], mpp: float | None = 0.25) -> str:
    """Text of an XML with one layer per name, a region per ring of (x, y)."""
    text = "<Annotations>" if mpp is None else f'<Annotations MicronsPerPixel="{mpp}">'
    for name, rings in layers.items():
        text += f'<Annotation><Attributes><Attribute Name="{name}"/></Attributes><Regions>'
        for ring in rings:
            vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ring)
            text += f"<Region><Vertices>{vertices}</Vertices></Region>"
        text += "</Regions></Annotation>"
    return text + "</Annotations>"


def rings_of(patch: Patch, label: int) -> list[np.ndarray]:
    """Outlines of a patch's nuclei of one label, along the edges of their pixels; only of nuclei that are one piece."""
    cv2 = pytest.importorskip("cv2", reason="outlines are traced by OpenCV, of the extra `train`")
    rings = []
    for number in np.unique(patch.instance_map[patch.type_map == label]).tolist():
        mask = (patch.instance_map == number).astype(np.uint8)
        large = mask.repeat(2, 0).repeat(2, 1)
        contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if number and len(contours) == 1:
            rings.append((contours[0][:, 0] + 0.5) / 2)
    return rings


def save_tiff(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svs":
        tifffile.imwrite(path, image, photometric="rgb", compression="jpeg2000", tile=(240, 240))
    else:
        Image.fromarray(image).save(path)


def consep_image(
    root: Path, split: str, name: str, image: np.ndarray, instances: np.ndarray, types: np.ndarray
) -> None:
    """``Train/Images/NAME.png``, ``Train/Labels/NAME.mat`` and ``Train/Overlay/NAME.png``, maps as MATLAB's doubles."""
    savemat = pytest.importorskip("scipy.io", reason="CoNSeP's files are MATLAB's: needs scipy").savemat

    for folder in ("Images", "Labels", "Overlay"):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("Images", "Overlay"):
        Image.fromarray(image).save(root / split / folder / f"{name}.png")
    ids = np.unique(instances[instances > 0])
    inst_type = np.array([[types[instances == i][0]] for i in ids], float)
    maps = {"inst_map": instances.astype(float), "type_map": types.astype(float), "inst_type": inst_type}
    savemat(root / split / "Labels" / f"{name}.mat", maps, do_compression=True)
