"""Stain normalisation: haematoxylin and eosin as they are found, painted again in standard colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Macenko et al., ISBI 2009, with the reference colours that its implementations share: optical density (natural
# logarithm) of haematoxylin and eosin, rows of unit length, and the amounts at the 99th percentile.
REFERENCE = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
REFERENCE_AMOUNTS = np.array([1.9705, 1.0308])
WHITE = 240
MIN_DENSITY = 0.15
MIN_STAINED_PX = 500


def normalise(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paint the stains of an image in the reference colours and at the reference strength.

    An image with fewer than 500 stained pixels, or whose stains cannot be told apart, is returned as it is.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (H, W, 3), RGB.
    """
    density = -np.log((image.reshape(-1, 3).astype(np.float64) + 1) / WHITE)
    # By the mean, not in every channel: purple stains absorb hardly any blue, and only the darkest pixels would stay.
    stained = density[density.mean(1) > MIN_DENSITY]
    if len(stained) < MIN_STAINED_PX:
        return image
    stains = _stains(stained)
    if np.linalg.cond(stains) > 50:
        return image
    amounts = density @ np.linalg.pinv(stains)
    strongest = np.percentile(amounts, 99, axis=0)
    if (strongest <= 0).any():
        return image
    painted = WHITE * np.exp(-(amounts * REFERENCE_AMOUNTS / strongest) @ REFERENCE) - 1
    rounded: NDArray[np.uint8] = np.clip(painted, 0, 255).astype(np.uint8).reshape(image.shape)
    return rounded


def _stains(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the two extreme directions in the plane of the densities, haematoxylin first; float64 (2, 3)."""
    plane = np.linalg.eigh(np.cov(density.T))[1][:, 1:]
    # Eigenvectors have no sign of their own; densities are positive.
    plane = plane * np.where(plane.sum(0) < 0, -1, 1)
    angles = np.arctan2(*(density @ plane).T)
    low, high = np.percentile(angles, [1, 99])
    found = np.array([[np.sin(a), np.cos(a)] for a in (low, high)]) @ plane.T
    ordered: NDArray[np.float64] = found[np.argsort(-found[:, 0])]  # haematoxylin absorbs more of the red
    return ordered
