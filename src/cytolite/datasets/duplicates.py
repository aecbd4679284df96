"""Find near-duplicates: images that show, in part or whole, the same piece of tissue, whatever was done to it.

Public datasets overlap: one holds crops of another, compressed again, turned, mirrored or scaled. Each image is
described by its SIFT keypoints (Lowe 2004; RootSIFT of Arandjelovic and Zisserman 2012) at 0.75 um/px, as it is and
mirrored. What many keypoints of two images agree on, a shift, a turn and a scale, is a candidate; it is refined by
enhanced correlation (Evangelidis and Psarakis 2008) and counts if the two images then correlate pixel by pixel at their
full resolution. Tissue that looks alike does not: its pixels differ. What has no texture (blank glass) is not found.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.errors import InputError, UsageError
from cytolite.files import read_text, whole_path
from cytolite.patches import Patch

DETECTION_MPP = 0.75
CONTRAST = 0.02  # of keypoints, as in SIFT; lower than usual, for pale images
NEIGHBOURS, CHECKS, TREES = 2, 32, 4
FARTHEST = 0.3  # squared distance of RootSIFT descriptors that still match; unrelated ones are 0.5 and more apart
FEWEST_KEYPOINTS = 4
REACH_PX = 2.0  # at the resolution of detection
SCALES = (0.75, 1.33)  # after the stated um/px are accounted for
SMOOTH_UM = 0.4  # correlated after this blur, so that compression noise does not count
CORRELATION, CORRELATION_COARSE, OVERLAP_UM2 = 0.8, 0.5, 250.0

COLUMNS = ("source_1", "name_1", "source_2", "name_2", "correlation", "overlap_um2")

# Says how many of how many images are done.
Update = Callable[[float, float], None]


@dataclass(frozen=True)
class Duplicate:
    """Two images that show the same tissue.

    Attributes
    ----------
    first, second : int
        Their indices; the first is the smaller.
    correlation : float
        Of their grey values where they overlap, at full resolution.
    overlap_um2 : float
        Area that both show.
    """

    first: int
    second: int
    correlation: float
    overlap_um2: float


def write_pairs(path: Path, found: Sequence[Duplicate], sources: Sequence[str], names: Sequence[str]) -> None:
    """Write duplicates as CSV, by the sources and names of their patches.

    Parameters
    ----------
    path : pathlib.Path
        CSV file to write.
    found : sequence of Duplicate
        Pairs of patches.
    sources, names : sequence of str
        Of each patch.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with whole_path(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for d in found:
            ends = [text for i in (d.first, d.second) for text in (sources[i], names[i])]
            writer.writerow([*ends, d.correlation, d.overlap_um2])


def read_pairs(path: Path, sources: Sequence[str], names: Sequence[str]) -> list[tuple[int, int]]:
    """Read what `write_pairs` wrote, as indices of the patches given; pairs of other patches are left out.

    Parameters
    ----------
    path : pathlib.Path
        CSV file.
    sources, names : sequence of str
        Of each patch.

    Raises
    ------
    InputError
        If the file cannot be read or is not such a file.
    """
    index = {patch: i for i, patch in enumerate(zip(sources, names, strict=True))}
    try:
        header, *rows = csv.reader(io.StringIO(read_text(path), newline=""))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a list of duplicates: {error}.") from None
    if tuple(header) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise InputError(f"{path} is no list of duplicates; `cytolite inspect STORE... --pairs FILE` writes one.")
    ends = [((row[0], row[1]), (row[2], row[3])) for row in rows]
    return [(index[a], index[b]) for a, b in ends if a in index and b in index]


@dataclass(frozen=True)
class _Keypoints:
    """Keypoints of many images: places in um, uint8 SIFT descriptors, and the image of each."""

    places: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    image: NDArray[np.intp]


def find_duplicates(
    read: Callable[[int], Patch],
    sources: Sequence[str],
    groups: Sequence[str],
    update: Update = lambda done, total: None,
) -> list[Duplicate]:
    """Find all pairs of images of different groups that show the same tissue.

    Parameters
    ----------
    read : callable
        Returns patch `i`; called again for candidates, so that not all are held in memory.
    sources, groups : sequence of str
        One entry a patch. Images of one group of one source are known to belong together and are not compared.
    update : callable
        Told how far the work is.

    Returns
    -------
    list of Duplicate
        In order of `first`, then `second`.
    """
    n = len(sources)
    owner = np.unique([f"{s}\0{g}" for s, g in zip(sources, groups, strict=True)], return_inverse=True)[1]
    names = sorted(set(sources))
    # Looking through the images is a half of the work, comparing sources the other.
    total, done = 2 * n, 0
    plain, mirrored = {}, {}
    for name in names:
        members = np.flatnonzero(np.asarray(sources) == name)
        both = []
        for i in members.tolist():
            both.append(_describe(read(i)))
            done += 1
            update(done, total)
        plain[name], mirrored[name] = (_join(members, [pair[side] for pair in both]) for side in (0, 1))
    found: dict[tuple[int, int], Duplicate] = {}
    for k, name in enumerate(names):
        search = _index(plain[name])
        for other in names[k:]:
            for flip, query in ((False, plain[other]), (True, mirrored[other])):
                for i, j, motion in _candidates(search, plain[name], query, owner):
                    pair = (min(i, j), max(i, j))
                    if pair not in found and (duplicate := _verify(read, i, j, motion, flip)):
                        found[pair] = duplicate
        done += len(np.flatnonzero(np.asarray(sources) == name))
        update(done, total)
    return [found[pair] for pair in sorted(found)]


def _describe(patch: Patch) -> tuple[_Described, _Described]:
    """Return the keypoints of an image and those of its mirror image (left for right)."""
    import cv2

    grey = cv2.cvtColor(patch.image, cv2.COLOR_RGB2GRAY)
    size = [max(1, round(side * patch.mpp / DETECTION_MPP)) for side in grey.shape[::-1]]
    shrinks = patch.mpp < DETECTION_MPP
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    # What a pixel of the small image really is, for its sides are whole numbers.
    pitch = np.array(grey.shape[::-1]) * patch.mpp / np.array(size)
    sift = cv2.SIFT.create(contrastThreshold=CONTRAST)

    def describe(image: NDArray[np.uint8]) -> _Described:
        keypoints, descriptors = sift.detectAndCompute(image, None)
        if descriptors is None:
            return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8)
        places = (np.array([k.pt for k in keypoints]) + 0.5) * pitch
        return places.astype(np.float32), descriptors.astype(np.uint8)

    return describe(small), describe(np.ascontiguousarray(small[:, ::-1]))


_Described = tuple[NDArray[np.float32], NDArray[np.uint8]]


def _join(members: NDArray[np.intp], described: Sequence[_Described]) -> _Keypoints:
    lengths = [len(places) for places, _ in described]
    places, descriptors = (np.concatenate(column) for column in zip(*described, strict=True))
    return _Keypoints(places, descriptors, np.repeat(members, lengths))


def _root(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = descriptors.astype(np.float32)
    return np.asarray(np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1)))


def _index(keypoints: _Keypoints) -> Any:
    """Make an index of nearest neighbours, the same each time; nothing if there are too few to have neighbours."""
    import cv2

    if len(keypoints.image) <= NEIGHBOURS + 1:
        return None
    cv2.setRNGSeed(0)
    kd_tree = 1
    return cv2.flann.Index(_root(keypoints.descriptors), {"algorithm": kd_tree, "trees": TREES})


def _candidates(
    search: Any, indexed: _Keypoints, query: _Keypoints, owner: NDArray[np.intp]
) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """Yield an image of `query`, one of `indexed`, and the motion (2, 3) in um that their keypoints agree on."""
    import cv2

    if search is None or len(query.image) < FEWEST_KEYPOINTS:
        return
    # The nearest neighbour of a keypoint may be itself.
    near, distance = search.knnSearch(_root(query.descriptors), NEIGHBOURS + 1, params={"checks": CHECKS})
    rows, columns = np.nonzero((distance < FARTHEST) & (owner[query.image][:, None] != owner[indexed.image[near]]))
    if not len(rows):
        return
    matched = near[rows, columns]
    pairs = query.image[rows].astype(np.int64) << 32 | indexed.image[matched]
    order = np.argsort(pairs, kind="stable")
    unique, starts = np.unique(pairs[order], return_index=True)
    for pair, members in zip(unique.tolist(), np.split(order, starts[1:]), strict=True):
        if len(members) < FEWEST_KEYPOINTS:
            continue
        cv2.setRNGSeed(0)
        motion, inside = cv2.estimateAffinePartial2D(
            query.places[rows[members]],
            indexed.places[matched[members]],
            ransacReprojThreshold=REACH_PX * DETECTION_MPP,
        )
        if motion is None or inside.sum() < FEWEST_KEYPOINTS:
            continue
        if SCALES[0] <= np.hypot(motion[0, 0], motion[0, 1]) <= SCALES[1]:
            yield pair >> 32, pair & 0xFFFFFFFF, motion


def _verify(read: Callable[[int], Patch], i: int, j: int, motion: NDArray[np.float64], flip: bool) -> Duplicate | None:
    """Lay image `j` over image `i` as the motion says, refine it and correlate: coarsely first, which is quick."""
    one, other = read(i), read(j)
    for mpp, enough in ((DETECTION_MPP, CORRELATION_COARSE), (max(one.mpp, other.mpp), CORRELATION)):
        a, b = _grey(one, mpp), _grey(other, mpp)
        motion, correlation, overlap_um2 = _correlate(np.ascontiguousarray(a[:, ::-1]) if flip else a, b, motion, mpp)
        if correlation < enough or overlap_um2 < OVERLAP_UM2:
            return None
    return Duplicate(min(i, j), max(i, j), round(correlation, 4), round(overlap_um2, 1))


def _correlate(
    a: NDArray[np.float32], b: NDArray[np.float32], motion: NDArray[np.float64], mpp: float
) -> tuple[NDArray[np.float64], float, float]:
    """Refine a motion (um) of `a` to `b`; return it with the correlation and the area in um2 where they overlap."""
    import cv2

    # From um to pixels whose centres are at whole numbers.
    shift = mpp / 2 * (motion[:, :2].sum(1) - 1)
    warp = np.array(motion, np.float32)
    warp[:, 2] = (motion[:, 2] + shift) / mpp
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
    try:
        _, warp = cv2.findTransformECC(a, b, warp, cv2.MOTION_AFFINE, stop, np.ones(b.shape, np.uint8), 5)
    except cv2.error:
        return motion, -1.0, 0.0  # it does not converge where the two do not overlap
    inverse = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    laid, seen = (cv2.warpAffine(image, warp, a.shape[::-1], flags=inverse) for image in (b, np.ones_like(b)))
    inside = seen > 0.999
    refined = warp.astype(np.float64)
    refined[:, 2] = warp[:, 2] * mpp - mpp / 2 * (refined[:, :2].sum(1) - 1)
    if inside.sum() < 2 or min(a[inside].std(), laid[inside].std()) < 1:
        return refined, -1.0, 0.0
    return refined, float(np.corrcoef(a[inside], laid[inside])[0, 1]), float(inside.sum()) * mpp**2


def _grey(patch: Patch, mpp: float) -> NDArray[np.float32]:
    """Return an image's grey values at a resolution that is not finer than its own, a little blurred."""
    import cv2

    grey = cv2.cvtColor(patch.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if patch.mpp < mpp:
        size = [max(1, round(side * patch.mpp / mpp)) for side in grey.shape[::-1]]
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), SMOOTH_UM / mpp))
