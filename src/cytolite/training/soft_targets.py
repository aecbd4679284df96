"""Soft targets: the teacher's maps of whole training images, made once, kept on disk, and cut out with each crop."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cytolite.errors import OutputError
from cytolite.patches import Patch
from cytolite.training.cache import named_by_content, to_half
from cytolite.training.teacher import Asked

FORMAT = 1


class SoftTargets:
    """Flows and type logits of every training image, on the grid of the student's maps, float16.

    An image is asked about once, whole and unchanged; a crop of it, rotated, mirrored and scaled, takes its part of the
    maps by the same warp. So a teacher of any size costs no more than one look at the training set, and crops
    need not repeat. The folder is named by the hash of all that decides its content; while it is filled it ends in
    ``.part``, and a run that was killed goes on there.

    Parameters
    ----------
    root : Path
        Folder of soft targets.
    decisive : mapping
        Everything that the content depends on, as JSON can hold it; another content has another name.
    mpp : float
        Resolution of the maps, um per pixel.
    """

    def __init__(self, root: Path, decisive: Mapping[str, Any], mpp: float) -> None:
        self.path = named_by_content(root, {"format": FORMAT, "mpp": mpp, **decisive})
        self.mpp = mpp

    def fill(self, patches: Sequence[Patch], asked: Asked, device: torch.device | str = "cpu") -> None:
        """Ask about the images that are not there yet.

        Parameters
        ----------
        patches : sequence of Patch
            Training images, in an order that stays.
        asked : callable
            The teacher.
        device : torch.device or str
            Where images are shown to it.

        Raises
        ------
        OutputError
            If the disk has no room, or the maps cannot be written for another reason.
        """
        if self.path.is_dir():
            return
        part = self.path.with_name(self.path.name + ".part")
        try:
            part.mkdir(parents=True, exist_ok=True)
            for i, patch in enumerate(tqdm(patches, unit="image", desc="asking the teacher")):
                file = part / _name(i)
                if not file.exists():
                    beside = file.with_suffix(".new")
                    with beside.open("wb") as out:
                        np.save(out, self._maps(patch, asked, device))
                    os.replace(beside, file)
            os.replace(part, self.path)
        except OSError as error:
            raise OutputError(f"Soft targets cannot be kept in {part}: {error.strerror or error}.") from None

    def _maps(self, patch: Patch, asked: Asked, device: torch.device | str) -> NDArray[np.float16]:
        """Return flows above type logits, (10, h, w)."""
        image = torch.from_numpy(np.ascontiguousarray(patch.image.transpose(2, 0, 1)))[None].to(device)
        height, width = (max(1, round(side * patch.mpp / self.mpp)) for side in patch.image.shape[:2])
        return to_half(torch.cat(asked(image, patch.mpp, (height, width)), 1)[0])

    def read(self, i: int, shape: tuple[int, ...], matrix: NDArray[np.float64], size: int) -> dict[str, torch.Tensor]:
        """Return the soft targets of a crop of image `i`.

        Parameters
        ----------
        i : int
            Place of the image in the sequence that `fill` was given.
        shape : tuple of int
            Height and width of the image.
        matrix : numpy.ndarray
            2x3, from a pixel (x, y) of the crop's maps to a pixel of the image, both counted from pixel centres.
        size : int
            Side of the crop's maps.

        Returns
        -------
        dict
            ``teacher_flows`` float32 (2, size, size), ``teacher_logits`` float32 (8, size, size), and
            ``teacher_weight`` float32 (size, size), 0 beyond the image, of which the teacher said nothing.
        """
        maps = np.load(self.path / _name(i), mmap_mode="r")
        warped, inside = warp_maps(maps, onto_maps(matrix, shape, maps.shape[1:]), size)
        warped[:2] = rotate_flows(warped[:2], matrix)
        return {
            "teacher_flows": torch.from_numpy(warped[:2]),
            "teacher_logits": torch.from_numpy(warped[2:]),
            "teacher_weight": torch.from_numpy(inside),
        }


def _name(i: int) -> str:
    return f"{i:06d}.npy"


def onto_maps(matrix: NDArray[np.float64], shape: tuple[int, ...], maps: tuple[int, ...]) -> NDArray[np.float64]:
    """Return `matrix`, which leads to pixels of an image of `shape`, so that it leads to pixels of its `maps`.

    Parameters
    ----------
    matrix : numpy.ndarray
        float64 (2, 3), to pixels of the image.
    shape : tuple of int
        Height and width of the image.
    maps : tuple of int
        Height and width of its maps.
    """
    rows, columns = (of_maps / of_image for of_maps, of_image in zip(maps[:2], shape[:2], strict=True))
    share = np.array([columns, rows])
    moved: NDArray[np.float64] = matrix * share[:, None]
    moved[:, 2] += (share - 1) / 2
    return moved


def warp_maps(
    maps: NDArray[np.floating], matrix: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sample maps (C, H, W) bilinearly: float32 (C, size, size), and 1 where there was something to sample, else 0.

    Parameters
    ----------
    maps : numpy.ndarray
        (C, H, W).
    matrix : numpy.ndarray
        float64 (2, 3), from a pixel (x, y) of the crop to one of the maps.
    size : int
        Side of the crop's maps, px.
    """
    ends = matrix @ np.array([[0, size - 1, 0, size - 1], [0, 0, size - 1, size - 1], [1, 1, 1, 1]])
    limits = np.array([maps.shape[2], maps.shape[1]])
    low = np.clip(np.floor(ends.min(1)).astype(int) - 1, 0, limits - 1)
    high = np.clip(np.ceil(ends.max(1)).astype(int) + 2, low + 1, limits)
    # Only what the crop covers leaves the disk.
    part = np.asarray(maps[:, low[1] : high[1], low[0] : high[0]], np.float32)
    moved = matrix.copy()
    moved[:, 2] -= low
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = np.stack(
        [cv2.warpAffine(plane, moved, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE) for plane in part]
    )
    columns, rows = np.meshgrid(np.arange(size), np.arange(size))
    x, y = (m[0] * columns + m[1] * rows + m[2] for m in matrix)
    inside = (x >= -0.5) & (x <= limits[0] - 0.5) & (y >= -0.5) & (y <= limits[1] - 0.5)
    return warped, inside.astype(np.float32)


def rotate_flows(flows: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rotate vectors (dy, dx) of an image, (2, H, W), into those of the crop that `matrix` cuts out of it.

    Parameters
    ----------
    flows : numpy.ndarray
        float32 (2, H, W), (dy, dx).
    matrix : numpy.ndarray
        float64 (2, 3), from a pixel of the crop to one of the image.
    """
    rotation = matrix[:, :2] / np.hypot(*matrix[:, 0])
    # The inverse of a rotation, mirrored or not, is its transpose.
    dx, dy = np.tensordot(rotation.T.astype(np.float32), flows[::-1], 1)
    return np.stack([dy, dx])
